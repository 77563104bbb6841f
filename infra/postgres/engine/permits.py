"""Permits: a bucket for each account with a rate, so that all workers together stay below it.

A lease is a short transaction of its own: no other lock is held meanwhile. The clock is the database's.
"""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from domain.permits import Bucket, Granted

_LEASE = """
WITH b AS MATERIALIZED (
    SELECT least($2::float8, left_over + $3::float8 * greatest(0, extract(epoch FROM clock_timestamp() - filled_at)))
           AS full_now, clock_timestamp() AS at,
           CASE WHEN owed_until > clock_timestamp() AND owed_until < clock_timestamp() + $6::interval
                THEN owed ELSE 0 END AS owed
    FROM permit WHERE account = $1 FOR UPDATE
),
a AS MATERIALIZED (
    SELECT *, least(greatest(floor(full_now - CASE WHEN $5 THEN 0 ELSE owed END), 0), $4::int)::int AS granted FROM b
),
g AS MATERIALIZED (SELECT *, least($4::int - granted, $7::int) AS missing FROM a)
UPDATE permit p
SET left_over = g.full_now - g.granted, filled_at = g.at,
    owed = CASE WHEN $5 THEN greatest(g.owed - g.granted, g.missing) ELSE g.owed END,
    owed_until = CASE WHEN $5 AND g.missing > 0
                      THEN g.at + least($6::interval / 2, make_interval(secs => 1 + g.missing / $3::float8))
                      ELSE p.owed_until END
FROM g WHERE p.account = $1
RETURNING g.granted, g.full_now, CASE WHEN $5 THEN 0 ELSE g.owed END AS before"""
"""What the high lane asked for and did not get is owed to it, until it will have asked again: others leave it in the
bucket. What goes on or ends without a permit is owed none."""

_GIVE_BACK = "UPDATE permit SET left_over = least(left_over + $2, $3) WHERE account = $1"

_BOOK = """
WITH b AS MATERIALIZED (
    SELECT clock_timestamp() AS at, greatest(clock_timestamp() + $2::interval,
               CASE WHEN booked_until < clock_timestamp() + 2 * $5::interval THEN booked_until END) AS turn
    FROM permit WHERE account = $1 FOR UPDATE
)
UPDATE permit p SET booked_until = least(b.turn + $3::int * $4::interval, b.at + $5::interval)
FROM b WHERE p.account = $1
RETURNING least(b.turn - b.at, $5::interval)"""

_BEGIN = """
INSERT INTO permit (account, left_over, filled_at) VALUES ($1, $2, clock_timestamp()) ON CONFLICT DO NOTHING"""


OWED_FOR = timedelta(minutes=1)
"""The longest that a permit is kept for the high lane; a time further ahead is of another clock."""
BOOKED_AHEAD = timedelta(seconds=55)
"""Turns are given so far ahead; what comes after that asks again then: a rate that was raised is used within a minute."""


class PermitRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lease(
        self, account: str, *, bucket: Bucket, wanted: int, waiting: int | None = None, urgent: bool = False
    ) -> Granted:
        """At most `wanted` permits of `account`, as many as there are. `urgent`: for the high lane, to whom they are owed
        where there are too few: to `waiting` messages at most (None: to all), as no others will ask again."""
        waits = wanted if waiting is None else waiting
        arguments = (account, float(bucket.burst), bucket.per_second, wanted, urgent, OWED_FOR, waits)
        row = await self._pool.fetchrow(_LEASE, *arguments)
        if row is None:
            await self._pool.execute(_BEGIN, account, float(bucket.burst))
            row = await self._pool.fetchrow(_LEASE, *arguments)
        assert row is not None, "made the moment before"
        if row["granted"]:
            return Granted(row["granted"])
        wait_s = max(0.0, (1.0 + row["before"] - row["full_now"]) / bucket.per_second)
        return Granted(0, timedelta(seconds=wait_s), timedelta(seconds=1 / bucket.per_second))

    async def give_back(self, account: str, *, count: float, most: int) -> None:
        """Leased and not used. The bucket holds `most`."""
        await self._pool.execute(_GIVE_BACK, account, count, float(most))

    async def book(self, account: str, *, count: int, granted: Granted) -> timedelta:
        """Turns for `count` messages, after those that others have been given: until the first of them. `granted` is what
        the last lease said."""
        first: timedelta | None = await self._pool.fetchval(
            _BOOK, account, granted.wait, count, granted.spacing, BOOKED_AHEAD
        )
        return granted.wait if first is None else first
