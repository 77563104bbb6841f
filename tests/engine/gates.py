"""Interleaving on purpose: a pool whose transactions stop at a chosen statement until the test lets them go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import asyncpg


@dataclass
class Gate:
    """Stops whoever sends a statement that contains `text`, once: before it, or after it has been answered."""

    text: str
    after: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)
    """Every statement that came by."""

    async def stop(self) -> None:
        if not self.reached.is_set():
            self.reached.set()
            await self.open.wait()


@dataclass
class Cut(Gate):
    """Cuts the connection there, `times` times. The text COMMIT means: after a transaction was committed."""

    times: int = 1

    async def stop(self) -> None:
        if self.times > 0:
            self.times -= 1
            self.reached.set()
            raise asyncpg.ConnectionDoesNotExistError("the connection was cut")


class GatedPool:
    """asyncpg.Pool, as far as the repositories use it, with a gate."""

    def __init__(self, pool: asyncpg.Pool, gate: Gate) -> None:
        self._pool = pool
        self._gate = gate

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            yield _GatedConnection(connection, self._gate)

    async def fetch(self, statement: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def executemany(self, statement: str, arguments: Any) -> None:
        async with self.acquire() as connection:
            await connection.executemany(statement, arguments)

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.execute(statement, *arguments)


class _HastyPool(GatedPool):
    """Whose sessions wait for no lock for long, and are ended soon where they stand still in a transaction."""

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            await connection.execute("SET lock_timeout = '100ms'; SET idle_in_transaction_session_timeout = '500ms'")
            yield connection  # asyncpg resets it when it comes back


class _GatedConnection:
    def __init__(self, connection: Any, gate: Gate) -> None:
        self._connection = connection
        self._gate = gate

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield
        if self._gate.text == "COMMIT":
            await self._gate.stop()

    async def fetch(self, statement: str, *arguments: object) -> Any:
        return await self._passing("fetch", statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: object) -> Any:
        return await self._passing("fetchrow", statement, *arguments)

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        return await self._passing("fetchval", statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> Any:
        return await self._passing("execute", statement, *arguments)

    async def _passing(self, method: str, statement: str, *arguments: object) -> Any:
        self._gate.seen.append(statement)
        mine = self._gate.text in statement
        if mine and not self._gate.after:
            await self._gate.stop()
        answer = await getattr(self._connection, method)(statement, *arguments)
        if mine and self._gate.after:
            await self._gate.stop()
        return answer


def gated(pool: asyncpg.Pool, gate: Gate) -> asyncpg.Pool:
    return cast("asyncpg.Pool", GatedPool(pool, gate))


def hasty(pool: asyncpg.Pool) -> asyncpg.Pool:
    return cast("asyncpg.Pool", _HastyPool(pool, Gate("")))


async def done_or_blocked(pool: asyncpg.Pool, *tasks: asyncio.Task[Any]) -> None:
    """Until every task has ended or some session of this database waits for a lock: nothing more will happen by itself."""
    while not all(task.done() for task in tasks):
        waiting = await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        if waiting:
            return
        await asyncio.sleep(0.002)
