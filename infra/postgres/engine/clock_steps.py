"""The database's clock, by which all due times and leases are made, and what to mend when somebody sets it back.

Set back by an hour, everything that was due a moment ago would be due in an hour again, whoever is lost would be missed an
hour later, and a chain would leave a channel that is down an hour late.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import asyncpg

from domain.lanes import LEASE
from infra.postgres.engine.locks import Connection, retried

_SEEN = "SELECT now() AS now, greatest(now(), (SELECT max(at) FROM probe)) AS latest"

_DUE = """
UPDATE work w SET due_at = now(), cohort = NULL
FROM (SELECT w.notification_id AS id, w.n FROM work w
      JOIN LATERAL (SELECT send_at FROM notification WHERE id = w.notification_id OFFSET 0) x
           ON coalesce(x.send_at <= now(), true)
      WHERE w.state = 0 AND w.due_at > greatest(now(), $3) AND w.due_at <= $1
      ORDER BY w.notification_id, w.n LIMIT $2 FOR UPDATE OF w) s
WHERE w.notification_id = s.id AND w.n = s.n"""
"""What was sent for a time that has not come (send_at) waits for it, though it had come once before."""

FALLBACK_AFTER = r"""CASE WHEN options ->> 'fallback_after' ~ '^P(?=.)(\d+D)?(T\d+(\.\d+)?S)?$'
                                  THEN (options ->> 'fallback_after')::interval END"""
"""Of a notification, as it is stored (`api.accept.rows`); NULL where that is no time: whoever claims the step says so."""

_BEGUN_AHEAD = f"""
UPDATE work w SET falls_back_at = least(w.falls_back_at - $2::interval, now() + s.after),
       due_at = CASE WHEN w.due_at > now() THEN w.due_at - $2::interval ELSE w.due_at END,
       cohort = CASE WHEN w.due_at > now() AND w.state = 0 THEN NULL ELSE w.cohort END
FROM (SELECT w.notification_id AS id, w.n, x.after FROM work w
      JOIN LATERAL (SELECT send_at, {FALLBACK_AFTER} AS after FROM notification WHERE id = w.notification_id OFFSET 0) x
           ON coalesce(x.send_at <= now(), true)
      WHERE w.falls_back_at > now() AND w.falls_back_at - x.after > now() + $3::interval
        AND (w.due_at <= $1 OR w.due_at > w.falls_back_at - x.after)
      ORDER BY w.notification_id, w.n LIMIT $4 FOR UPDATE OF w) s
WHERE w.notification_id = s.id AND w.n = s.n"""
"""The time of a place of a chain began so long before it ends as its chain says, and no later than now, or than what it
still waits for: its window's opening, its quiet hours' end. One that began later began by the clock that was ahead, and is
moved with all that it waits for, once: by this clock no place begins ahead, nor does one that was moved. What had begun
before that by more than the clock was set back is not known from others, and ends later by that at most."""

_LEASES = "UPDATE cohort SET lease = now() + $1 WHERE lease > now() + $1"
"""Too early for a cohort that holds: then the sweep asks Temporal about it once, and lets it be."""

_ANSWERS = "UPDATE work SET unknown_at = now() + $1 WHERE state = 1 AND unknown_at > now() + $1"

HAND_OVER_LIMIT = timedelta(seconds=90)
"""More than any hand-over has from its claim to its outcome (`workflows.delivery.DRIVE_LIMIT`)."""
ROWS_A_TURN = 5000
HARDLY_AHEAD = timedelta(seconds=5)
"""What is computed from a claim (`Claim.database_time`) may be so far ahead of the clock."""


class ClockRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def seen(self) -> tuple[datetime, datetime]:
        """What the clock says, and the latest that any API process is known to have seen on it."""
        (row,) = await self._pool.fetch(_SEEN)
        return row["now"], row["latest"]

    async def set_back(self, since: datetime, *, by: timedelta, after: datetime | None = None) -> int:
        """The clock had come to `since` and was set back `by` so much: what was due then is due now, of that only what
        became due after `after`; and no lease or outcome is waited for longer than from now on. Returns how many steps
        that were. Safe to repeat, in several processes too."""

        async def promises(connection: Connection) -> None:
            await connection.execute(_ANSWERS, HAND_OVER_LIMIT)
            await connection.execute(_LEASES, LEASE)

        await retried(self._pool, promises)
        moved = await self._all(_DUE, since, ROWS_A_TURN, after)
        await self.begun_ahead(since, by=by)
        return moved

    async def begun_ahead(self, since: datetime, *, by: timedelta) -> None:
        """The time of a chain's place that began by the clock as it was ends as much sooner. Safe to repeat, at any time
        and in several processes: by then none has begun ahead."""
        await self._all(_BEGUN_AHEAD, since, by, HARDLY_AHEAD, ROWS_A_TURN)

    async def _all(self, statement: str, *arguments: Any) -> int:
        """In turns, until fewer rows are changed than a turn may."""

        async def turn(connection: Connection) -> int:
            status: str = await connection.execute(statement, *arguments)
            return int(status.split()[-1])

        moved = changed = await retried(self._pool, turn)
        while changed == ROWS_A_TURN:
            changed = await retried(self._pool, turn)
            moved += changed
        return moved
