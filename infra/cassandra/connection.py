"""A connection to a Cassandra cluster that can be awaited.

The driver (cassandra-driver with its libev reactor: the cheapest measured, 70-120 us of CPU a row against 200-250 of its
asyncio reactor) has threads of its own. What blocks in it goes to a thread; requests are `execute_async`, and their answers
are handed to the event loop in groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import PreparedStatement, tuple_factory

from domain.errors import Unavailable
from infra.cassandra.errors import sockets_full, told, unknown_datacenter
from infra.settings import Settings

IN_FLIGHT = 64
"""Requests on their way at once from one process. Measured: 32 to 64 is enough, more only adds latency."""
REQUEST_S = 10.0
"""Above the server's own time-outs, so that the server says what it was."""
FULL_S = 0.01
"""Until a request is tried again that the driver did not send: a busy server reads no further, and the socket is full."""
DDL_S = 60.0
CONNECT_S = 10.0
PROTOCOL_VERSION = 5
"""Cassandra 4.0 and newer; left open, the driver tries versions of other products first, and warns of each."""

Row = tuple[Any, ...]


class Cassandra:
    """An open session: every statement LOCAL_QUORUM, sent to a node that holds its partition, at most IN_FLIGHT at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._answers = _Answers()
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    async def open(cls, settings: Settings) -> Cassandra:
        """Connect as the settings say. Raises Unavailable: not set up, not reached, refused, or no node in the named data
        centre."""
        if not settings.cassandra_hosts:
            raise Unavailable("There is no Cassandra: TONGDA_CASSANDRA_HOSTS is empty.", code="not_set_up")
        with told():
            return cls(await asyncio.to_thread(_connect_blocking, settings))

    async def prepare(self, statement: str) -> PreparedStatement:
        """A statement to execute often, marked as safe to repeat. Only for statements that are. Raises Unavailable."""
        with told():
            prepared = await asyncio.to_thread(self._session.prepare, statement)
        prepared.is_idempotent = True
        return prepared

    async def execute(self, statement: Any, *, timeout_s: float = REQUEST_S) -> Sequence[Row]:
        """The first page of rows, none for a write. Raises Unavailable when the cluster cannot do it now.

        When the caller is cancelled the request goes on, and keeps its slot until it is answered.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        with told():
            while True:
                await self._slots.acquire()
                try:
                    return await self._send(statement, timeout_s)
                except NoHostAvailable as error:
                    if not sockets_full(error) or loop.time() >= until:
                        raise
                await asyncio.sleep(FULL_S)

    def _send(self, statement: Any, timeout_s: float) -> asyncio.Future[Sequence[Row]]:
        future: asyncio.Future[Sequence[Row]] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        put, release = self._answers.put, self._slots.release
        try:
            request = self._session.execute_async(statement, timeout=timeout_s)
        except BaseException:
            release()
            raise
        request.add_callbacks(
            lambda rows: put(future, release, rows or (), None), lambda error: put(future, release, (), error)
        )
        return future

    async def close(self) -> None:
        """Let go of all connections; what is on its way fails."""
        await asyncio.to_thread(self._session.cluster.shutdown)


class _Answers:
    """From the driver's thread to the event loop: answers that come close together cost one wake-up."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.Future[Sequence[Row]], Any, Sequence[Row], BaseException | None]] = []

    def put(
        self, future: asyncio.Future[Sequence[Row]], release: Any, rows: Sequence[Row], error: BaseException | None
    ) -> None:
        with self._lock:
            self._waiting.append((future, release, rows, error))
            if len(self._waiting) > 1:
                return
        # The loop may have been closed by a program that did not wait for its answers.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future, release, rows, error in waiting:
            release()
            if future.done():
                continue
            if error is None:
                future.set_result(rows)
            else:
                future.set_exception(error)


def _retrieve(future: asyncio.Future[Sequence[Row]]) -> None:
    """An answer nobody waits for any more is no reason to warn."""
    if not future.cancelled():
        future.exception()


def _connect_blocking(settings: Settings) -> Session:
    name, password = settings.cassandra_username, settings.cassandra_password.get_secret_value()
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=settings.cassandra_datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=REQUEST_S,
        row_factory=tuple_factory,
    )
    cluster = Cluster(
        contact_points=settings.cassandra_endpoints,
        auth_provider=PlainTextAuthProvider(name, password) if name else None,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connection_class=LibevConnection,
        connect_timeout=CONNECT_S,
        protocol_version=PROTOCOL_VERSION,
    )
    try:
        return cluster.connect()
    except BaseException as error:
        cluster.shutdown()
        seen = {host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter}
        if isinstance(error, NoHostAvailable) and seen and settings.cassandra_datacenter not in seen:
            raise unknown_datacenter(settings.cassandra_datacenter, seen=seen) from error
        raise
