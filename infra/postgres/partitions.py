"""Partitions of the tables that grow with time: made ahead, and dropped by the week when they are old.

DETACH CONCURRENTLY is not for tables with a default partition (PostgreSQL refuses), so a partition is dropped under a short
lock instead: whoever comes meanwhile waits for `LOCK_TIMEOUT` at most, and the files go after the locks (xact.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from domain.ids import uuid7_time
from infra.postgres.blocks import BlockIndex

PARENTS = ("notification", "delivery", "event")
"""In the order of dropping: a timeline without its notification is not found, a notification without its timeline would
be a riddle."""
LOCK_TIMEOUT = timedelta(milliseconds=100)
"""How long a drop may queue for its lock, with everybody else queueing behind it."""
ATTEMPTS = 5
PAUSE_S = 0.5
DROPS_A_CALL = 12
"""With every lock got at the last attempt, half a minute: a sweep has one (`workflows.housekeeping`)."""
_NO_LOCK = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

_LIST = """
SELECT inhparent::regclass::text AS parent, inhrelid::regclass::text AS name, now() AS now,
       pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = ANY ($1::text[]::regclass[])"""

_BOUND = re.compile(r"FOR VALUES FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")

_PENDING = "SELECT EXISTS (SELECT FROM work WHERE notification_id >= $1 AND notification_id < $2)"


@dataclass(frozen=True, slots=True)
class _Partition:
    """One week of one table: ids from `first` up to, without, `end`."""

    parent: str
    name: str
    first: UUID
    end: UUID


class PartitionRepository:
    """`keep`: how long rows are kept at least, counted from the end of their week; None keeps them for ever."""

    def __init__(self, pool: asyncpg.Pool, *, keep: timedelta | None = None) -> None:
        self._pool = pool
        self._keep = keep
        self.blocks = BlockIndex(pool)

    async def ensure(self) -> int:
        """Make this week's and the coming weeks' partitions where they are missing; returns how many were made."""
        made: int = await self._pool.fetchval("SELECT ensure_partitions()")
        return made

    async def drop_old(self) -> int:
        """Drop what is older than `keep`; returns how many partitions that were.

        Safe to repeat, from several processes too, and while traffic runs. A week in whose range a work row lies stays
        whole. At most DROPS_A_CALL, and the call ends early where a lock is not to be had (a long report reads the table);
        the next call goes on.
        """
        dropped = 0
        for partition in await self._old():
            if await self._pool.fetchval(_PENDING, partition.first, partition.end):
                continue
            try:
                dropped += await self._drop(partition)
            except _NO_LOCK:
                break
            if dropped == DROPS_A_CALL:
                break
        return dropped

    async def _old(self) -> Sequence[_Partition]:
        """By week, and within one in the order of PARENTS."""
        if self._keep is None:
            return []
        rows = await self._pool.fetch(_LIST, list(PARENTS))
        return sorted(_older(rows, keep=self._keep), key=lambda one: (one.end, PARENTS.index(one.parent)))

    async def _drop(self, partition: _Partition) -> bool:
        """False: a work row came, or somebody else was first. Raises _NO_LOCK after the last attempt."""
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(*_NO_LOCK):
                return await self._drop_once(partition)
            await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))
        return await self._drop_once(partition)

    async def _drop_once(self, partition: _Partition) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {int(LOCK_TIMEOUT.total_seconds() * 1000)}")
            await connection.execute(f"LOCK TABLE ONLY {partition.parent} IN ACCESS EXCLUSIVE MODE")
            # Asked again in a statement of its own: what was being accepted while we waited is seen only now.
            if await connection.fetchval(_PENDING, partition.first, partition.end):
                return False
            there = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", partition.name)
            if there:
                await connection.execute(f"DROP TABLE {partition.name}")
            return bool(there)


def _older(rows: Sequence[asyncpg.Record], *, keep: timedelta) -> Iterator[_Partition]:
    for row in rows:
        # None where somebody else has dropped it since: pg_get_expr looks at the present, not at the statement's snapshot.
        bound = None if row["bound"] is None else _BOUND.search(row["bound"])
        if bound is None:  # or it is the default partition, which stays
            continue
        end = UUID(bound[2])
        if uuid7_time(end) + keep <= row["now"]:
            yield _Partition(row["parent"], row["name"], UUID(bound[1]), end)
