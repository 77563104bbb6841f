"""Events for event stores to keep."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from domain.history import Event
from domain.ids import uuid7
from domain.timeline import EventType

START = datetime(2026, 3, 29, 1, 59, 59, 999_000, tzinfo=UTC)


def event(
    notification_id: UUID,
    *,
    at: datetime = START,
    event_id: UUID | None = None,
    n: int = 0,
    kind: str = EventType.ATTEMPT,
    cohort: UUID | None = None,
    detail: dict[str, object] | None = None,
) -> Event:
    return Event(
        notification_id, event_id or uuid7(), n=n, at=at, type=kind, cohort=cohort,
        epoch=None if cohort is None else 2, detail=detail,
    )  # fmt: skip
