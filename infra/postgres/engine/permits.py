"""Permits: a bucket for each account with a rate, so that all workers together stay below it.

A lease is a short transaction of its own: no other lock is held meanwhile. The clock is the database's.
"""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from domain.permits import AHEAD_S, OTHERS_SHARE, STAYS_S, Bucket, Granted, PermitRank

_LEASE = """
WITH b AS MATERIALIZED (
    SELECT at, $5::smallint = 2 AS bulk,
           least(bulk_due, $8::float8) AS bulk_due, least(others_due, $2::float8) AS others_due,
           least($2::float8, greatest(left_over, -$2::float8)
                             + $3::float8 * greatest(0, extract(epoch FROM at - filled_at))) AS full_now,
           CASE WHEN owed_until > at AND owed_until < at + $6::interval THEN owed ELSE 0 END AS owed,
           CASE WHEN few_owed_until > at AND few_owed_until < at + $6::interval THEN few_owed ELSE 0 END AS few_owed,
           coalesce(bulk_next_until > at AND bulk_next_until < at + $6::interval, false) AS bulk_next
    FROM (SELECT *, clock_timestamp() AS at FROM permit WHERE account = $1 OFFSET 0 FOR UPDATE) p
),
k AS MATERIALIZED (
    SELECT b.*, few_owed > 0 AND bulk_due < 1 AS few_first, h.high_first,
           CASE $5::smallint WHEN 0 THEN 0
                             WHEN 1 THEN h.high_first + CASE WHEN bulk_next AND bulk_due >= 1 THEN 1 ELSE 0 END
                             ELSE h.high_first + CASE WHEN bulk_due < 1 THEN few_owed ELSE 0 END END AS kept
    FROM b, LATERAL (SELECT CASE WHEN others_due < 1 THEN owed ELSE 0 END AS high_first) h
),
a AS MATERIALIZED (
    SELECT *, least($4::int, CASE WHEN $5::smallint > 0 AND owed > high_first THEN others_due END,
                    CASE WHEN bulk AND few_owed > 0 AND NOT few_first THEN bulk_due END,
                    CASE WHEN kept = 0 THEN least(full_now + $9::float8, $2::float8) ELSE full_now - kept END) AS most,
           CASE WHEN bulk AND kept = 0 AND owed = 0 AND few_owed = 0
                     AND least($4::float8, $2::float8) - full_now - $9::float8 <= $10::float8 * $3::float8
                THEN least($4::float8, $2::float8) ELSE 1 END AS at_least
    FROM k
),
g AS MATERIALIZED (
    SELECT *, CASE WHEN most < at_least THEN 0 ELSE floor(most) END::int AS granted,
           greatest(at_least + kept - full_now - $9::float8,
                    CASE WHEN few_first THEN $2::float8 WHEN few_owed > 0 THEN $2::float8 - 1 END) / $3::float8 AS next_s
    FROM a
),
s AS MATERIALIZED (
    SELECT g.*, m.missing, least($6::interval / 2, make_interval(secs => 1 + m.missing / $3::float8)) AS asks_again,
           bulk AND granted = 0 AND high_first = 0 AND next_s <= $10::float8
               AND ($11::bool OR NOT bulk_next OR $12::bool) AS stays
    FROM g, LATERAL (SELECT least($4::int - granted, $7::int) AS missing) m
)
UPDATE permit p
SET left_over = s.full_now - s.granted, filled_at = s.at,
    owed = CASE $5::smallint WHEN 0 THEN greatest(s.owed - s.granted, s.missing) ELSE s.owed END,
    owed_until = CASE WHEN $5::smallint = 0 AND s.missing > 0 THEN s.at + s.asks_again ELSE p.owed_until END,
    few_owed = CASE $5::smallint WHEN 1 THEN least(greatest(s.few_owed - s.granted, s.missing), $2::float8)
                                 ELSE s.few_owed END,
    few_owed_until = CASE WHEN $5::smallint = 1 AND s.missing > 0 THEN s.at + s.asks_again ELSE p.few_owed_until END,
    others_due = CASE $5::smallint WHEN 0 THEN least(s.others_due + s.granted * $13::float8, $2::float8)
                                   ELSE greatest(s.others_due - s.granted, 0) END,
    bulk_due = CASE $5::smallint WHEN 1 THEN least(s.bulk_due + s.granted, $8::float8)
                                 WHEN 2 THEN greatest(s.bulk_due - s.granted, 0) ELSE s.bulk_due END,
    bulk_next_until = CASE WHEN NOT bulk THEN p.bulk_next_until
                           WHEN s.granted > 0 THEN NULL
                           WHEN s.stays THEN s.at + make_interval(secs => s.next_s + ($9::float8 + 1) / $3::float8)
                           WHEN s.kept = 0 AND $12::bool AND NOT s.bulk_next
                           THEN s.at + make_interval(secs => (2 - s.full_now) / $3::float8)
                           ELSE p.bulk_next_until END
FROM s WHERE p.account = $1
RETURNING s.granted, s.full_now, s.kept, s.stays, s.next_s"""
"""What the high lane asked for and did not get is owed to it, until it will have asked again: others leave it in the
bucket, but for what is due to them for what the high lane had (`others_due`). What goes on or ends without a permit is owed
none. In the same way permits are owed to whoever has few messages, a bucketful at most, for as long as none is due to bulk;
each that they are granted makes one due (`bulk_due`).

A permit that comes in a moment may be granted before it is there: it is taken from the bucket at once, and used when it has
come. Bulk for which that is too early is told to stay, one at a time (`bulk_next_until`), and where a permit is due to it
few leave it the next one: whoever comes by and by is late, and what a full bucket does not hold is lost. Where permits come
more slowly than bulk may stay for, few leave it the next one until it has had the time to look again."""

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
BOOKED_AHEAD = timedelta(seconds=55)
"""Turns are given so far ahead; what comes after that asks again then: a rate that was raised is used within a minute."""


class PermitRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lease(
        self,
        account: str,
        *,
        bucket: Bucket,
        wanted: int,
        waiting: int | None = None,
        rank: PermitRank = PermitRank.BULK,
        stays_s: float = STAYS_S,
        again: bool = False,
    ) -> Granted:
        """At most `wanted` permits of `account`, as many as there are for this rank. Where there are too few, they are owed
        to who goes before bulk: to `waiting` messages at most (None: to all), as no others will ask again. Bulk
        that would stay for so long may be told to, and to ask `again`."""
        waits = wanted if waiting is None else waiting
        owed_for = max(OWED_FOR, timedelta(seconds=4 * (bucket.burst + 1) / bucket.per_second))
        ranked = (int(rank), owed_for, waits, bucket.most_due)
        looks_ahead = again or stays_s > 0 if rank is PermitRank.BULK else bucket.burst == 1
        staying = (bucket.ahead if looks_ahead else 0.0, stays_s, again, bucket.per_second * STAYS_S < 1, OTHERS_SHARE)
        arguments = (account, float(bucket.burst), bucket.per_second, wanted, *ranked, *staying)
        row = await self._pool.fetchrow(_LEASE, *arguments)
        if row is None:
            await self._pool.execute(_BEGIN, account, float(bucket.burst))
            row = await self._pool.fetchrow(_LEASE, *arguments)
        assert row is not None, "made the moment before"
        granted, full_now = row["granted"], row["full_now"]
        if granted:
            return Granted(granted, timedelta(seconds=max(0.0, (granted - full_now) / bucket.per_second)))
        spacing = timedelta(seconds=1 / bucket.per_second)
        if row["stays"]:
            return Granted(0, timedelta(seconds=row["next_s"]), spacing, stays=True)
        wait_s = max(0.0, (1.0 + row["kept"] - full_now) / bucket.per_second)
        early_s = STAYS_S if rank is PermitRank.BULK else AHEAD_S
        if wait_s > early_s:
            wait_s -= early_s / 2  # and then waits: what it is late for has run over
        return Granted(0, timedelta(seconds=wait_s), spacing)

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
