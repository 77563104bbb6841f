"""Entries of timelines as they are written: ids and codes, never personal data.

What writes an entry with something else in one statement has its own INSERT: plans, a recall that is asked for again,
in-app messages that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain.cohorts import CohortEpoch
from domain.ids import uuid7
from domain.timeline import EventType
from infra.postgres.columns import columns
from infra.postgres.engine.locks import Connection

_TYPES = ("uuid", "uuid", "smallint", "interval", "text", "uuid", "int", "json")


def insert_events(*, first: int) -> str:
    """The INSERT of `event_columns`; `first`: the number of the first of their parameters."""
    parameters = ", ".join(f"${number}::{name}[]" for number, name in enumerate(_TYPES, first))
    return f"""
INSERT INTO event (notification_id, id, n, at, type, cohort, epoch, detail)
SELECT id, event, n, now() - age, type, cohort, epoch, detail
FROM unnest({parameters})
     e(id, event, n, age, type, cohort, epoch, detail)
ON CONFLICT DO NOTHING"""


_WRITE = insert_events(first=1)

_NOW = timedelta(0)


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One entry of a timeline. Its id is made once: what is repeated writes it once."""

    type: EventType
    detail: dict[str, Any]
    """Empty: NULL is stored."""
    id: UUID = field(default_factory=uuid7)


class Entry(NamedTuple):
    """An entry and where it stands."""

    notification_id: UUID
    n: int
    """0: it is about the whole notification."""
    event: TimelineEvent
    age: timedelta = _NOW
    """How long before this statement, by the database's clock, it happened."""
    cohort: CohortEpoch | None = None


async def write_events(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write them; those that are there already stay as they are."""
    if entries:
        await connection.execute(_WRITE, *event_columns(entries))


def event_columns(entries: Sequence[Entry]) -> list[list[Any]]:
    """As parameters of `insert_events`."""
    return columns([_row(*entry) for entry in entries], of=len(_TYPES))


async def write_event(connection: Connection, notification_id: UUID, kind: EventType, detail: dict[str, Any]) -> None:
    """One about the whole notification."""
    await write_events(connection, [Entry(notification_id, 0, TimelineEvent(kind, detail))])


def _row(
    notification_id: UUID, n: int, event: TimelineEvent, age: timedelta, cohort: CohortEpoch | None
) -> tuple[Any, ...]:
    detail = msgspec.json.encode(event.detail).decode() if event.detail else None
    driven_by = (None, None) if cohort is None else (cohort.id, cohort.epoch)
    return notification_id, event.id, n, age, event.type, *driven_by, detail
