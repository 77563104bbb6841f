"""Connections of the HTTP client: who may have one now, which is used again, and how a new one is opened.

A slot is the right to one exchange. Slots are bounded in all and for each origin, and whoever waits for one gets it in the
order of asking; a waiter whose origin is full holds up no other origin. Open connections, idle ones included, are never
more than slots: a new one takes the place of the one that has been idle longest.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from infra.http_connection import HttpConnection, Origin
from infra.http_opening import Opener

KEEPALIVE_S = 3.0
"""Node.js closes idle connections after 5 s, gunicorn after 2; shorter than most, long enough for a busy lane."""


class HttpPool:
    """Made and used on one event loop."""

    def __init__(self, opener: Opener, *, connections: int, per_origin: int) -> None:
        self._opener = opener
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        self._per_origin = per_origin
        self._taken = 0
        self._taken_of: Counter[Origin] = Counter()
        self._waiting: deque[tuple[Origin, asyncio.Future[None]]] = deque()
        self._idle: dict[HttpConnection, None] = {}
        """In the order of their return: the one that has been idle longest comes first."""
        self._idle_of: dict[Origin, list[HttpConnection]] = {}
        """The one that came back last is used first: it is the least likely to be closed by now."""
        self._alive: set[HttpConnection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    def take_idle(self, origin: Origin) -> HttpConnection | None:
        """A slot with a connection, if there are both right now. The caller writes to it before the loop's next turn."""
        if not self._idle_of.get(origin) or not self._free(origin):
            return None
        connection = self._pop_idle(origin)
        if connection is not None:
            self._count(origin, 1)
        return connection

    async def take(self, origin: Origin) -> HttpConnection:
        """A slot with a connection, used or new. The caller writes to it before the loop's next turn.

        Raises OSError or TargetRefused, and then nothing has been written anywhere."""
        if self._free(origin):
            self._count(origin, 1)
        else:
            await self._slot(origin)
        try:
            return self._pop_idle(origin) or await self._opened(origin)
        except BaseException:
            self._give_slot(origin)
            raise

    def give(self, connection: HttpConnection) -> None:
        """The exchange is over."""
        if connection.reusable:
            connection.idle_since = self._loop.time()
            self._idle[connection] = None
            self._idle_of.setdefault(connection.origin, []).append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(KEEPALIVE_S, self._close_old)
        else:
            connection.abort()
        self._give_slot(connection.origin)

    def made(self, connection: HttpConnection) -> None:
        """Its transport is there."""
        self._alive.add(connection)

    def lost(self, connection: HttpConnection) -> None:
        """Its transport is gone."""
        self._drop_idle(connection)
        self._alive.discard(connection)
        if self._emptied is not None and not self._alive:
            self._emptied.set()

    async def close(self) -> None:
        """Close everything, and wait until the transports are gone."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._emptied = asyncio.Event()
        for connection in list(self._alive):
            connection.abort()
        if self._alive:
            await self._emptied.wait()
        self._emptied = None

    def _free(self, origin: Origin) -> bool:
        # Nobody is overtaken: a slot that could serve a waiter was given to one when it came free.
        return self._taken < self._connections and self._taken_of[origin] < self._per_origin

    def _count(self, origin: Origin, change: int) -> None:
        self._taken += change
        self._taken_of[origin] += change
        if not self._taken_of[origin]:
            del self._taken_of[origin]

    async def _slot(self, origin: Origin) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        place = (origin, ready)
        self._waiting.append(place)
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():  # given in the same moment
                self._give_slot(origin)
            else:
                self._waiting.remove(place)
            raise

    def _give_slot(self, origin: Origin) -> None:
        self._count(origin, -1)
        if not self._waiting:
            return
        for place in self._waiting:
            waiter, ready = place
            if not ready.done() and self._free(waiter):
                self._waiting.remove(place)
                self._count(waiter, 1)
                ready.set_result(None)
                return

    async def _opened(self, origin: Origin) -> HttpConnection:
        while self._idle and self._taken + len(self._idle) > self._connections:
            self._close_idle(next(iter(self._idle)))
        connection = await self._opener.open(origin, owner=self)
        if connection.spent(fresh=True):  # closed on us, or it speaks first: nothing has been written
            connection.abort()
            raise ConnectionResetError
        return connection

    def _pop_idle(self, origin: Origin) -> HttpConnection | None:
        stack = self._idle_of.get(origin)
        while stack:
            connection = stack[-1]
            self._drop_idle(connection)
            age_s = self._loop.time() - connection.idle_since
            if age_s < KEEPALIVE_S and not connection.spent():
                return connection
            connection.abort()
        return None

    def _drop_idle(self, connection: HttpConnection) -> None:
        if connection in self._idle:
            del self._idle[connection]
            stack = self._idle_of[connection.origin]
            if stack[-1] is connection:
                stack.pop()
            else:
                stack.remove(connection)
            if not stack:
                del self._idle_of[connection.origin]

    def _close_idle(self, connection: HttpConnection) -> None:
        self._drop_idle(connection)
        connection.abort()

    def _close_old(self) -> None:
        now = self._loop.time()
        self._sweep = None
        for connection in list(self._idle):
            wait_s = connection.idle_since + KEEPALIVE_S - now
            if wait_s > 0.001:
                self._sweep = self._loop.call_later(wait_s, self._close_old)
                return
            self._close_idle(connection)
