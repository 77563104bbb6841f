"""Spans of time as ranges of ids, which carry their time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.ids import uuid7_floor

LAST = UUID(int=(1 << 128) - 1)
FIRST = UUID(int=0)
_SKEW = timedelta(minutes=5)
"""Ids carry the accepting process's clock, `accepted_at` the database's: bounds on ids are this much wider."""
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""No id lies outside, and neither ids nor the arithmetic of times reach much further."""


@dataclass(frozen=True, slots=True)
class IdBounds:
    """A span of time, brought within what PostgreSQL's times hold, and the ids that can lie in it."""

    since: datetime | None
    until: datetime | None
    first: UUID
    """Inclusive."""
    above: UUID
    """Exclusive."""


def id_bounds(since: datetime | None, until: datetime | None) -> IdBounds:
    since, until = _bounded(since), _bounded(until)
    return IdBounds(
        since,
        until,
        first=uuid7_floor(since - _SKEW) if since else FIRST,
        above=uuid7_floor(until + _SKEW) if until else LAST,
    )


def _bounded(at: datetime | None) -> datetime | None:
    return None if at is None else min(max(at, _EARLIEST), _LATEST)
