"""Connections to PostgreSQL: an asyncpg pool for hot statements, a SQLAlchemy engine for everything else.

Reads that follow writes (by id, timelines, keys, suppression) go to the primary; lists may lag and read a replica.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from infra.postgres.deadline import left_s
from infra.postgres.urls import sqlalchemy_url
from infra.settings import Settings

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
CONNECTION_WITHIN_S = 4.0
"""For a connection to become free, where callers wait; and never past their own time (`infra.postgres.deadline`)."""
ENGINE_CONNECTIONS = 5
LIST_CONNECTIONS = 4
"""To the replica, of each kind: lists are few and may wait for one another."""
HOT_STATEMENTS = {"jit": "off", "enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
"""Settings of the pool. Each statement is planned once a connection: those with short arrays would otherwise be planned
anew every time (measured: 2.3 of 3.7 ms for a lone message). One whose plan hangs on its values sets `plan_cache_mode` for
its transaction. Without scans, because a plan that was made while a table or next week's partition was empty would scan
it when it is full. Every hot statement has an index, so a scan is never what it needs."""

LOCK_WAIT = timedelta(seconds=2)
"""For somebody's lock. Nobody holds one that long but who has stood still in the middle."""
STANDS_STILL = timedelta(seconds=5)
"""Between two statements of a transaction. Then the server ends the session and its locks are free: a process that was
frozen, or a machine that was lost, holds up the others' outcomes for less time than they have
(`domain.lanes.FLUSH_MARGIN`)."""
GUARDS = {
    "lock_timeout": f"{LOCK_WAIT // timedelta(milliseconds=1)}ms",
    "idle_in_transaction_session_timeout": f"{STANDS_STILL // timedelta(milliseconds=1)}ms",
}
"""Settings of every connection of the service."""


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Given back without asyncpg's reset query, a round trip and four statements after every use (measured: 700 of 3,100
    round trips for 8,000 messages). Nothing here sets session parameters, session locks or cursors on a pooled
    connection; LISTEN has its own. What asyncpg does before (an open transaction rolled back, listeners dropped) stays."""


class _Pool(asyncpg.Pool):
    """Whose callers wait for a connection, and for it to be taken back, no longer than `wait_s`, and get none past their
    deadline; TimeoutError instead. None: as long as it takes."""

    def __init__(self, url: str, *, wait_s: float | None, **settings: Any) -> None:
        super().__init__(
            url, max_queries=50_000, max_inactive_connection_lifetime=300.0, loop=None,
            connection_class=asyncpg.Connection, record_class=asyncpg.Record, **settings,
        )  # fmt: skip
        self._wait_s = wait_s

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        most_s = self._wait_s if timeout is None else timeout
        return super().acquire(timeout=None if most_s is None else left_s(most_s))

    async def release(self, connection: PoolConnectionProxy[asyncpg.Record], *, timeout: float | None = None) -> None:
        """Not within what was left of the time when it was lent, as asyncpg does."""
        await super().release(connection, timeout=self._wait_s if timeout is None else timeout)


class _EnginePool(AsyncAdaptedQueuePool):
    """Gives out no connection past the caller's deadline: neither at once, nor to who has waited for it until then."""

    def _do_get(self) -> ConnectionPoolEntry:
        _still_wanted()
        entry = super()._do_get()
        try:
            _still_wanted()
        except TimeoutError:
            self._do_return_conn(entry)
            raise
        return entry


def _still_wanted(*_: object) -> None:
    """Raises TimeoutError past the caller's deadline."""
    left_s(0.0)


@dataclass(frozen=True, slots=True)
class Database:
    """What a process holds open to PostgreSQL."""

    pool: asyncpg.Pool
    engine: AsyncEngine
    replica: Database | None = None
    """Open only where the settings name another database for lists. It may lag."""

    @property
    def lists(self) -> Database:
        """For lists alone: what it shows may be older than an answer that was given already."""
        return self.replica or self

    @classmethod
    async def open(
        cls, settings: Settings, *, name: str, with_replica: bool = False, limit_s: float | None = None
    ) -> Database:
        """Connect as `name` (pg_stat_activity.application_name). Raises OSError or asyncpg errors when it cannot.

        A replica is connected to when it is first read: it may be away without anything else noticing. `limit_s` is for
        processes whose callers wait: no statement takes longer, however it is sent, and nobody waits longer than
        CONNECTION_WITHIN_S to send one.
        """
        url, read_url = settings.database_url.get_secret_value(), settings.database_read_url.get_secret_value()
        primary = await cls._connected(
            url, name=name, least=1, most=settings.database_pool, engine_connections=ENGINE_CONNECTIONS, limit_s=limit_s
        )
        if not with_replica or read_url in ("", url):
            return primary
        most = min(LIST_CONNECTIONS, settings.database_pool)
        replica = await cls._connected(
            read_url, name=f"{name}-lists", least=0, most=most, engine_connections=most // 2, limit_s=limit_s
        )
        return cls(primary.pool, primary.engine, replica)

    @classmethod
    async def _connected(
        cls, url: str, *, name: str, least: int, most: int, engine_connections: int, limit_s: float | None
    ) -> Database:
        wait_s = None if limit_s is None else CONNECTION_WITHIN_S
        pool = await _Pool(
            url,
            wait_s=wait_s,
            min_size=least,
            max_size=most,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=limit_s or COMMAND_TIMEOUT_S,
            reset=_leave_as_it_is,
            server_settings={"application_name": name, **GUARDS, **HOT_STATEMENTS},
        )
        engine = create_async_engine(
            sqlalchemy_url(url),
            poolclass=_EnginePool,
            pool_size=engine_connections,
            max_overflow=engine_connections,
            pool_pre_ping=True,
            pool_timeout=wait_s or COMMAND_TIMEOUT_S,
            connect_args={
                "server_settings": {"application_name": name, **GUARDS},
                "timeout": CONNECT_TIMEOUT_S,
                "command_timeout": limit_s,
            },
        )
        event.listen(engine.sync_engine, "checkout", _still_wanted)  # after the ping, which may have taken long
        return cls(pool, engine)

    async def close(self) -> None:
        if self.replica is not None:
            await self.replica.close()
        await self.engine.dispose()
        await self.pool.close()
