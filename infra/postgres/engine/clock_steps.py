"""The database's clock, by which all due times and leases are made, and what to mend when somebody sets it back.

Set back by an hour, everything that was due a moment ago would be due in an hour again, and whoever is lost would be
missed an hour later.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from domain.lanes import LEASE
from infra.postgres.engine.locks import Connection, retried

_SEEN = "SELECT now() AS now, greatest(now(), (SELECT max(at) FROM probe)) AS latest"

_DUE = """
UPDATE work w SET due_at = now(), cohort = NULL, falls_back_at = w.falls_back_at - ($1::timestamptz - now())
FROM (SELECT w.notification_id AS id, w.n FROM work w
      JOIN LATERAL (SELECT send_at FROM notification WHERE id = w.notification_id OFFSET 0) x
           ON coalesce(x.send_at <= now(), true)
      WHERE w.state = 0 AND w.due_at > greatest(now(), $3) AND w.due_at <= $1
      ORDER BY w.notification_id, w.n LIMIT $2 FOR UPDATE OF w) s
WHERE w.notification_id = s.id AND w.n = s.n"""
"""What was sent for a time that has not come (send_at) waits for it, though it had come once before."""

_LEASES = "UPDATE cohort SET lease = now() + $1 WHERE lease > now() + $1"
"""Too early for a cohort that holds: then the sweep asks Temporal about it once, and lets it be."""

_ANSWERS = "UPDATE work SET unknown_at = now() + $1 WHERE state = 1 AND unknown_at > now() + $1"

HAND_OVER_LIMIT = timedelta(seconds=90)
"""More than any hand-over has from its claim to its outcome (`workflows.delivery.DRIVE_LIMIT`)."""
ROWS_A_TURN = 5000


class ClockRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def seen(self) -> tuple[datetime, datetime]:
        """What the clock says, and the latest that any API process is known to have seen on it."""
        (row,) = await self._pool.fetch(_SEEN)
        return row["now"], row["latest"]

    async def set_back(self, since: datetime, *, after: datetime | None = None) -> int:
        """The clock had come to `since` and stands before it: what was due then is due now, of that only what became due
        after `after`; and no lease or outcome is waited for longer than from now on. Returns how many steps that were.
        Safe to repeat, in several processes too."""

        async def due(connection: Connection) -> int:
            status: str = await connection.execute(_DUE, since, ROWS_A_TURN, after)
            return int(status.split()[-1])

        async def promises(connection: Connection) -> None:
            await connection.execute(_ANSWERS, HAND_OVER_LIMIT)
            await connection.execute(_LEASES, LEASE)

        await retried(self._pool, promises)
        moved = turn = await retried(self._pool, due)
        while turn == ROWS_A_TURN:
            turn = await retried(self._pool, due)
            moved += turn
        return moved
