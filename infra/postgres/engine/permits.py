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
           AS full_now, clock_timestamp() AS at
    FROM permit WHERE account = $1 FOR UPDATE
)
UPDATE permit p SET left_over = b.full_now - least(floor(b.full_now), $4::int), filled_at = b.at
FROM b WHERE p.account = $1
RETURNING least(floor(b.full_now), $4::int)::int AS granted, b.full_now"""

_BEGIN = """
INSERT INTO permit (account, left_over, filled_at) VALUES ($1, $2, clock_timestamp()) ON CONFLICT DO NOTHING"""


class PermitRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lease(self, account: str, *, bucket: Bucket, wanted: int) -> Granted:
        """At most `wanted` permits of `account`, as many as there are."""
        arguments = (account, float(bucket.burst), bucket.per_second, wanted)
        row = await self._pool.fetchrow(_LEASE, *arguments)
        if row is None:
            await self._pool.execute(_BEGIN, account, float(bucket.burst))
            row = await self._pool.fetchrow(_LEASE, *arguments)
        assert row is not None, "made the moment before"
        if row["granted"]:
            return Granted(row["granted"])
        wait_s = max(0.0, (1.0 - row["full_now"]) / bucket.per_second)
        return Granted(0, timedelta(seconds=wait_s), timedelta(seconds=1 / bucket.per_second))
