"""The answers about a person as a whole: erasure, export, figures."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.problems import parameter_error
from api.schemas import QueryMoment
from domain.errors import Invalid
from infra.postgres.lists.user_stats import MOST_COUNTED, UserStats
from infra.postgres.users.erasing import Erasure as Stored
from infra.postgres.users.exporting import FORMAT

_ERASED: dict[str, int] = {
    "identities": 2, "devices": 1, "preferences": 1, "suppressions": 1, "stored_answers": 1, "notifications": 312,
    "deliveries": 340, "inbox_items": 97,
}  # fmt: skip
_SHOWN: dict[str, Any] = {
    "id": "u-1024", "state": "erased", "progress": "under_way", "requested_at": "2026-12-01T01:00:00Z",
    "finished_at": None, "erased": _ERASED, "cancelled": 1, "in_flight": 1, "suppressions_kept": 1,
}  # fmt: skip


class Erased(BaseModel):
    """How many of each were erased so far. Direct sends to the same address name no user, and are not among them."""

    identities: int = 0
    devices: int = 0
    preferences: int = 0
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


class UserExport(BaseModel):
    """All that is held about a user; names are those of the database's columns."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "format": FORMAT, "exported_at": "2026-12-01T01:00:00Z", "user": {"id": "u-1024", "name": "王芳"},
                    "identities": [{"channel": "email", "address": "fang@example.com"}], "devices": [],
                    "preferences": [], "suppressions": [], "stored_answers": [], "notifications": [], "inbox": [],
                }
            ]
        }
    )  # fmt: skip

    format: str
    exported_at: datetime
    user: dict[str, Any]
    identities: list[dict[str, Any]]
    devices: list[dict[str, Any]] = Field(description="Tokens and keys included.")
    preferences: list[dict[str, Any]] = Field(description="One, as it is stored, or none.")
    suppressions: list[dict[str, Any]]
    stored_answers: list[dict[str, Any]] = Field(description="Answers kept under idempotency keys, 30 days.")
    notifications: list[dict[str, Any]] = Field(description="Each with its `deliveries` and `open_steps`.")
    inbox: list[dict[str, Any]]


class StatsQuery(BaseModel):
    """The span of time in which they were accepted; left out, all that is kept."""

    model_config = ConfigDict(extra="forbid")

    since: QueryMoment | None = Field(default=None, alias="from", description="This moment or later.")
    until: QueryMoment | None = Field(default=None, alias="to", description="Before this moment.")

    def check(self) -> None:
        """Raises Invalid."""
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise _nothing_between()


def _nothing_between() -> Invalid:
    return parameter_error("to", "range", "It lies behind `from`.")


class Stats(BaseModel):
    """Figures about a user's notifications, those removed from view left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "total": 3, "complete": True, "by_status": {"delivered": 2, "suppressed": 1},
                    "by_category": {"orders": 3}, "by_channel": {"email": {"sent": 1, "suppressed": 1}},
                    "first_at": "2026-11-01T01:00:00Z", "last_at": "2026-12-01T01:00:00Z", "inbox_unread": 2,
                }
            ]
        }
    )  # fmt: skip

    total: int
    complete: bool = Field(description=f"false: there may be more; the newest {MOST_COUNTED:,} were counted.")
    by_status: dict[str, int]
    by_category: dict[str, int]
    by_channel: dict[str, dict[str, int]] = Field(description="Recorded deliveries: channel, status, number.")
    first_at: datetime | None
    last_at: datetime | None
    inbox_unread: int = Field(description="Now, in the whole inbox.")

    @classmethod
    def of(cls, stats: UserStats, *, inbox_unread: int) -> Stats:
        return cls(
            total=stats.total, complete=stats.complete, by_status=dict(stats.by_status),
            by_category=dict(stats.by_category),
            by_channel={channel: dict(states) for channel, states in stats.by_channel.items()},
            first_at=stats.first_at, last_at=stats.last_at, inbox_unread=inbox_unread,
        )  # fmt: skip
