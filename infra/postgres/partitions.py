"""Partitions of the tables that grow with time."""

from __future__ import annotations

import asyncpg


class PartitionRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def ensure(self) -> int:
        """Make this week's and the coming weeks' partitions where they are missing; returns how many were made."""
        made: int = await self._pool.fetchval("SELECT ensure_partitions()")
        return made
