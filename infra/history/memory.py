"""In-memory twin of the event store, for tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from uuid import UUID

from domain.errors import Unavailable
from domain.history import PAGE, Event, Place, check_limit
from infra.history.detail import decode, encode


class MemoryEventStore:
    """Keeps each (notification, id) once. `away`: every call raises Unavailable until it is set back."""

    def __init__(self) -> None:
        self.away = False
        self.appended: list[int] = []
        """Size of each append."""
        self._events: defaultdict[UUID, dict[UUID, Event]] = defaultdict(dict)

    async def append(self, events: Sequence[Event]) -> None:
        self._check()
        # As a server would have it back: another object, and nothing that JSON cannot carry.
        kept = [replace(e, at=e.at.astimezone(UTC), detail=decode(encode(e.detail))) for e in events]
        self.appended.append(len(kept))
        for event in kept:
            self._events[event.notification_id].setdefault(event.id, event)

    async def timeline(self, notification_id: UUID, *, after: Place | None = None, limit: int = PAGE) -> Sequence[Event]:
        self._check()
        check_limit(limit)
        found = sorted(self._events.get(notification_id, {}).values(), key=lambda event: event.place)
        return [event for event in found if after is None or event.place > after][:limit]

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.away:
            raise Unavailable("The event store is away.")
