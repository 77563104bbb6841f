"""The answers about a person's rights: erasure and export."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.postgres.erasing import Erasure as Stored

_ERASED: dict[str, int] = {
    "identities": 2, "devices": 1, "suppressions": 1, "stored_answers": 1, "notifications": 312, "deliveries": 340,
    "inbox_items": 97,
}  # fmt: skip
_SHOWN: dict[str, Any] = {
    "id": "u-1024", "state": "erased", "progress": "under_way", "requested_at": "2026-12-01T01:00:00Z",
    "finished_at": None, "erased": _ERASED, "cancelled": 1, "in_flight": 1, "suppressions_kept": 1,
}  # fmt: skip


class Erased(BaseModel):
    """How many of each were erased so far. Direct sends to the same address name no user, and are not among them."""

    identities: int = 0
    devices: int = 0
    suppressions: int = 0
    stored_answers: int = Field(default=0, description="Answers kept under idempotency keys.")
    notifications: int = Field(default=0, description="Content, data and addresses; the timelines stay.")
    deliveries: int = 0
    inbox_items: int = 0


class Erasure(BaseModel):
    """How far the erasure of a user is."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: str
    state: Literal["erased"] = "erased"
    progress: Literal["under_way", "finished"]
    requested_at: datetime
    finished_at: datetime | None
    erased: Erased
    cancelled: int = Field(description="Notifications that had not gone out and will not.")
    in_flight: int = Field(
        description="Being handed over when last looked at: they may still arrive. Nothing follows them, and the erasure "
        "is finished only after their end."
    )
    suppressions_kept: int = Field(description="Objections (`requested`, `complaint`) that stay, as digests of addresses.")

    @classmethod
    def of(cls, user_id: str, stored: Stored) -> Erasure:
        counts = stored.counts
        return cls(
            id=user_id, progress="under_way" if stored.finished_at is None else "finished",
            requested_at=stored.requested_at, finished_at=stored.finished_at,
            erased=Erased(**{name: counts.get(name, 0) for name in Erased.model_fields}),
            cancelled=counts.get("cancelled", 0), in_flight=counts.get("in_flight", 0),
            suppressions_kept=counts.get("suppressions_kept", 0),
        )  # fmt: skip
