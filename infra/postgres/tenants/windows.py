"""Sending windows as JSON, as they are posted: in `notification.options`, `category` and `tenant`."""

from __future__ import annotations

from datetime import time
from typing import Any

import msgspec

from domain.windows import RECIPIENT, Window


def encode_window(window: Window) -> dict[str, Any]:
    """The JSON object to store."""
    return {"from": f"{window.start:%H:%M}", "to": f"{window.end:%H:%M}", "time_zone": window.zone}


def decode_window(stored: Any) -> Window | None:
    """What is stored, as JSON text or decoded already; None for nothing, and for what this version cannot read."""
    try:
        found = msgspec.json.decode(stored) if isinstance(stored, str | bytes) else stored
        zone = found.get("time_zone", RECIPIENT)
        return Window(time.fromisoformat(found["from"]), time.fromisoformat(found["to"]), zone)
    except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, ValueError):
        return None
