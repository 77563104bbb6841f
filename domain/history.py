"""The event store: what happened to each notification, kept for long. A port; `infra` implements it three times, and no
process is wired to it yet: timelines are read from the table `event`.

`infra.history.memory` (twin for tests), `infra.history.postgres` (the embedded default) and `infra.cassandra.history` pass
one contract file, tests/history/test_contract.py.

Events hold ids and codes, never personal data: erasing a person leaves the history as it is. A store knows no tenants: who
asks for a timeline has found the notification to be the tenant's before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

PAGE = 500
"""Events of one page of a timeline unless said otherwise; a notification rarely has more than ten."""
MAX_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, once and for all: the same `id` always comes with the same content."""

    notification_id: UUID
    id: UUID
    """UUIDv7, made by who saw it happen."""
    n: int
    """The step it belongs to; 0 is the notification itself."""
    at: datetime
    """When, with a time zone, to the microsecond."""
    type: str
    """One of `domain.timeline.EventType`; a string, so that a later version's events can be read by an earlier one."""
    cohort: UUID | None = None
    epoch: int | None = None
    """The workflow that drove it, where one did."""
    detail: Mapping[str, object] | None = None
    """Any JSON object of codes, ids and numbers."""

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("an event's time needs a time zone")

    @property
    def place(self) -> Place:
        """Where in its notification's timeline it stands."""
        return Place(self.at, self.id)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a timeline: the order of events, and the cursor of a page."""

    at: datetime
    id: UUID


class EventStore(Protocol):
    """Errors: `Unavailable` when the store cannot be reached or does not answer in time; trying again is safe."""

    async def append(self, events: Sequence[Event]) -> None:
        """Keep all of them, of any notifications, in any order; returns once they are durable.

        Safe to repeat: an event that is there already stays as it is. After an error some may be kept and others not.
        """
        ...

    async def timeline(self, notification_id: UUID, *, after: Place | None = None, limit: int = PAGE) -> Sequence[Event]:
        """At most `limit` (1 to MAX_PAGE) events of one notification by (at, id), those beyond the place `after`.

        Empty when there is nothing (more). What another process has been told is kept is seen. An event that is appended
        late may stand before a page that was read already: read again from the start to be sure of a whole.
        """
        ...

    async def close(self) -> None:
        """Let go of connections that the store opened itself."""
        ...


def check_limit(limit: int) -> int:
    """The limit itself. Raises ValueError outside 1 to MAX_PAGE."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"a page holds 1 to {MAX_PAGE} events")
    return limit
