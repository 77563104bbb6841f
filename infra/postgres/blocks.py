"""The block index of notifications (decision 0015), kept up to date from here.

PostgreSQL could do that by itself (`autosummarize`, which the index was made with): each full block is a request to
autovacuum, whose list of them has 256 places. Under load it is full for most of the time, and each request that finds no
place is a line in the server's log, with the statement: 20 a second. So partitions are told to ask for nothing, each once
and under a short lock, and the sweep summarises what was filled since it last looked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import asyncpg

LOCK_TIMEOUT = timedelta(milliseconds=100)
"""Below deadlock_timeout (1 s), after which PostgreSQL would end the autovacuum in the way, which summarises too."""
TURN_S = 5.0
"""A sweep has a minute (`workflows.housekeeping`); what is left comes in the next turn."""
BLOCKS_A_STATEMENT = 512
"""64 MB, half a second."""

_PARTITIONS = """
SELECT inhrelid::regclass::text AS name, coalesce(c.reloptions @> '{autosummarize=on}', false) AS asks,
       pg_relation_size(indrelid) / current_setting('block_size')::int / $1 AS full_blocks
FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid JOIN pg_class c ON c.oid = inhrelid
WHERE inhparent = 'notification_blocks'::regclass ORDER BY inhrelid DESC"""
"""The newest first: there something happens."""

_SUMMARISE = """
SELECT coalesce(sum(brin_summarize_range($1::text::regclass, block * $4::bigint)), 0)
FROM generate_series($2::bigint, $3::bigint - 1) block"""
"""A block that has been summarised is one look. One that is not full is left alone: accept would have to write into it."""

_NOT_NOW = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.UndefinedTableError)
"""Used by somebody, or dropped since."""

PAGES_A_BLOCK = 16


class BlockIndex:
    """One a process. Safe in several at once: one summarises, the others come again."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._done: dict[str, int] = {}
        """How many blocks of each partition have been summarised."""

    async def summarise(self, *, turn_s: float = TURN_S) -> int:
        """What has been filled since the last call, for about as long; returns how many blocks that were."""
        partitions = await self._pool.fetch(_PARTITIONS, PAGES_A_BLOCK)
        self._done = {p["name"]: self._done.get(p["name"], 0) for p in partitions}
        until_s, summarised = time.monotonic() + turn_s, 0
        for partition in partitions:
            try:
                summarised += await self._summarise(partition, until_s=until_s)
            except _NOT_NOW:
                continue
        return summarised

    async def _summarise(self, partition: asyncpg.Record, *, until_s: float) -> int:
        """Raises _NOT_NOW."""
        name, full, summarised = partition["name"], partition["full_blocks"], 0
        if partition["asks"]:
            await self._locked(f"ALTER INDEX {name} SET (autosummarize = off)")
        while (first := self._done[name]) < full and time.monotonic() < until_s:
            end = min(first + BLOCKS_A_STATEMENT, full)
            (row,) = await self._locked(_SUMMARISE, name, first, end, PAGES_A_BLOCK)
            summarised += row[0]
            self._done[name] = end
        return summarised

    async def _locked(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {int(LOCK_TIMEOUT.total_seconds() * 1000)}")
            rows: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
