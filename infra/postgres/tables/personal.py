"""Where personal data may live."""

from __future__ import annotations

PERSONAL: dict[str, tuple[str, ...]] = {
    "person": ("name", "attributes"),
    "identity": ("address",),
    "device": ("token", "keys"),
    "suppression": ("address",),
    "preference": ("choices",),
    "notification": ("to_address", "content", "data", "metadata"),
    "work": ("address", "chain"),
    "delivery": ("address", "rest"),
    "inbox_item": ("title", "text", "url", "data"),
    "idempotency": ("answer",),
}
"""Table -> columns that may hold personal data. Nothing else may."""
