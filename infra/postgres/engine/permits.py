"""Permits: a bucket for each account with a rate, so that all workers together stay below it.

A lease is a short transaction of its own: no other lock is held meanwhile. The clock is the database's.
"""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from domain.permits import Bucket, Granted, PermitRank

_LEASE = """
WITH b AS MATERIALIZED (
    SELECT least($2::float8, filled) AS full_now, at, ran_over,
           CASE WHEN few_until > filled_at THEN greatest(filled - $2::float8, 0) ELSE 0 END AS runs_over,
           CASE WHEN owed_until > at AND owed_until < at + $6::interval THEN owed ELSE 0 END AS owed,
           CASE WHEN few_owed_until > at AND few_owed_until < at + $6::interval THEN few_owed ELSE 0 END AS few_owed,
           greatest(at, CASE WHEN few_until < at + $6::interval THEN few_until END) AS few_from,
           coalesce(booked_until > at AND booked_until < at + 2 * $6::interval, false) AS bulk_waits
    FROM (SELECT *, clock_timestamp() AS at FROM permit WHERE account = $1 OFFSET 0 FOR UPDATE) p,
         LATERAL (SELECT left_over + $3::float8 * greatest(0, extract(epoch FROM at - filled_at)) AS filled) f
),
o AS MATERIALIZED (
    SELECT *, CASE WHEN few_owed > 0 AND bulk_waits THEN least(ran_over + runs_over, 2 * $2::float8)
                   ELSE ran_over END AS lost
    FROM b
),
k AS MATERIALIZED (
    SELECT *, few_from <= at AS few_first,
           CASE $5::smallint WHEN 0 THEN 0
                             WHEN 1 THEN owed + CASE WHEN few_from > at AND bulk_waits AND lost < $2::float8
                                                     THEN $8::int ELSE 0 END
                             ELSE owed + CASE WHEN few_from <= at THEN few_owed ELSE 0 END END AS kept
    FROM o
),
a AS MATERIALIZED (SELECT *, least(greatest(floor(full_now - kept), 0), $4::int)::int AS granted FROM k),
g AS MATERIALIZED (
    SELECT a.*, m.missing, least($6::interval / 2, make_interval(secs => 1 + m.missing / $3::float8)) AS asks_again
    FROM a, LATERAL (SELECT least($4::int - granted, $7::int) AS missing) m
)
UPDATE permit p
SET left_over = g.full_now - g.granted, filled_at = g.at, ran_over = greatest(g.lost - g.granted * $9::float8, 0),
    owed = CASE $5::smallint WHEN 0 THEN greatest(g.owed - g.granted, g.missing) ELSE g.owed END,
    owed_until = CASE WHEN $5::smallint = 0 AND g.missing > 0 THEN g.at + g.asks_again ELSE p.owed_until END,
    few_owed = CASE $5::smallint WHEN 1 THEN least(greatest(g.few_owed - g.granted, g.missing), $2::float8)
                                 ELSE g.few_owed END,
    few_owed_until = CASE WHEN $5::smallint = 1 AND g.missing > 0 THEN g.few_from + g.asks_again
                          ELSE p.few_owed_until END,
    few_until = CASE WHEN $5::smallint = 1 AND g.few_first AND g.granted > 0
                     THEN g.at + make_interval(secs => g.granted * 2 / $3::float8) ELSE p.few_until END
FROM g WHERE p.account = $1
RETURNING g.granted, g.full_now, g.kept"""
"""What the high lane asked for and did not get is owed to it, until it will have asked again: others leave it in the
bucket. What goes on or ends without a permit is owed none. In the same way permits are owed to whoever has few messages, a
bucketful at most, and while they have had no more than half: up to `few_until` bulk that waits may take what is there, and
they leave it the most part of a bucketful. What runs over meanwhile is lost to both, so it is counted: once that is a
bucketful they leave nothing to bulk, until so many have been granted that it is no more than `LOST_SHARE` of those."""

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
"""The longest that a permit is kept for somebody; a time further ahead is of another clock. Longer where the bucket fills
so slowly that they could not come before."""
LOST_SHARE = 0.025
"""Of an account's permits may run over, kept for bulk that does not come in time."""
BOOKED_AHEAD = timedelta(seconds=55)
"""Turns are given so far ahead; what comes after that asks again then: a rate that was raised is used within a minute."""


class PermitRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lease(
        self, account: str, *, bucket: Bucket, wanted: int, waiting: int | None = None, rank: PermitRank = PermitRank.BULK
    ) -> Granted:
        """At most `wanted` permits of `account`, as many as there are for this rank. Where there are too few, they are owed
        to who goes before bulk: to `waiting` messages at most (None: to all), as no others will ask again."""
        waits = wanted if waiting is None else waiting
        owed_for = max(OWED_FOR, timedelta(seconds=4 * (bucket.burst + 1) / bucket.per_second))
        ranked = (int(rank), owed_for, waits, bucket.left_by_few, LOST_SHARE)
        arguments = (account, float(bucket.burst), bucket.per_second, wanted, *ranked)
        row = await self._pool.fetchrow(_LEASE, *arguments)
        if row is None:
            await self._pool.execute(_BEGIN, account, float(bucket.burst))
            row = await self._pool.fetchrow(_LEASE, *arguments)
        assert row is not None, "made the moment before"
        if row["granted"]:
            return Granted(row["granted"])
        wait_s = max(0.0, (1.0 + row["kept"] - row["full_now"]) / bucket.per_second)
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
