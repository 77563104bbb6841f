"""The event store on the `event` table: the embedded default, and the same rows that delivery itself writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from domain.errors import Unavailable
from domain.history import PAGE, Event, Place, check_limit
from infra.history.detail import decode, encode
from infra.postgres.columns import columns
from infra.postgres.errors import is_away

ROWS_A_STATEMENT = 5_000
"""Bounds the memory of one statement, here and in the server."""

_APPEND = """
INSERT INTO event (notification_id, id, n, at, type, cohort, epoch, detail)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::timestamptz[], $5::text[], $6::uuid[], $7::int[],
                     $8::json[])
ON CONFLICT (notification_id, id) DO NOTHING"""

_TIMELINE = """
SELECT id, n, at, type, cohort, epoch, detail FROM event WHERE notification_id = $1 ORDER BY at, id LIMIT $2"""

_AFTER = """
SELECT id, n, at, type, cohort, epoch, detail FROM event
WHERE notification_id = $1 AND (at, id) > ($3, $4) ORDER BY at, id LIMIT $2"""


class PostgresEventStore:
    """`domain.history.EventStore` on a pool that somebody else opened and closes: the primary, because people read what
    they have just written."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def append(self, events: Sequence[Event]) -> None:
        # One order for all writers: two that wait for each other's new key would be a deadlock.
        rows = [_row(event) for event in sorted(events, key=lambda event: (event.notification_id, event.id))]
        async with _told():
            for start in range(0, len(rows), ROWS_A_STATEMENT):
                part = rows[start : start + ROWS_A_STATEMENT]
                await self._pool.execute(_APPEND, *columns(part))

    async def timeline(self, notification_id: UUID, *, after: Place | None = None, limit: int = PAGE) -> Sequence[Event]:
        place = () if after is None else (after.at, after.id)
        statement = _TIMELINE if after is None else _AFTER
        async with _told():
            rows = await self._pool.fetch(statement, notification_id, check_limit(limit), *place)
        return [Event(notification_id=notification_id, **{**row, "detail": decode(row["detail"])}) for row in rows]

    async def close(self) -> None:
        pass


def _row(event: Event) -> tuple[Any, ...]:
    return (event.notification_id, event.id, event.n, event.at, event.type, event.cohort, event.epoch,
            encode(event.detail))  # fmt: skip


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """The database's absence in the port's words."""
    try:
        yield
    except Exception as error:
        if is_away(error):
            raise Unavailable("PostgreSQL cannot be reached.") from error
        raise
