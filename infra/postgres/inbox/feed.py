"""Live inboxes of this process: one LISTEN connection, one query for all streams together, no connection for any of them.

A NOTIFY is an empty hint to look now; looking every `POLL_S` is what makes it complete. Each subscription has a bounded
buffer: a reader who does not keep up is cut off and resumes from its cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass

import asyncpg
import structlog

from infra.postgres.database import CONNECT_TIMEOUT_S, Database
from infra.postgres.deadline import without_deadline
from infra.postgres.inbox.changes import Changed, InboxChanges, Watch, cursor_of
from infra.postgres.inbox.items import CHANNEL, InboxEntry

POLL_S = 1.0
GAP_S = 0.02
"""At least, between two queries: under constant hints they are grouped."""
GAP_RATIO = 2.0
"""At least, in lengths of the last query: thousands of streams (25 ms for 2,000) take a third of a connection at most."""
MAX_BUFFERED = 1000
"""Entries that wait for one reader."""
WATCHES_A_QUERY = 2000

_log = structlog.get_logger(__name__)


class StreamEnded(Exception):
    """The subscription is over: the process stops, or its reader was too slow. Connect again with the last cursor."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes of one moment. A reader that saw all of them continues from `after`, otherwise from `before`."""

    before: str
    after: str
    entries: tuple[InboxEntry, ...]
    too_many: bool = False
    """The reader has to read the list: too much changed at once."""


class Subscription:
    """One reader's stream. Made by `InboxFeed.subscribe`."""

    def __init__(self, watch: Watch, *, unread: int, resumed: bool) -> None:
        self.watch = watch
        self.unread = unread
        """At the moment of connecting."""
        self.resumed = resumed
        self._buffer: deque[Batch] = deque()
        self._waiting = 0
        self._ended = False
        self._ready = asyncio.Event()

    @property
    def cursor(self) -> str:
        """What is complete up to here, once everything buffered has been read."""
        return self._buffer[0].before if self._buffer else cursor_of(self.watch.since)

    async def next(self, *, timeout_s: float) -> Batch | None:
        """The next changes; None when there are none for so long. Raises StreamEnded."""
        if not self._buffer and not self._ended:
            self._ready.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), timeout_s)
        if self._ended:
            raise StreamEnded
        if not self._buffer:
            return None
        batch = self._buffer.popleft()
        self._waiting -= len(batch.entries)
        return batch

    def offer(self, changed: Changed, *, now: str) -> None:
        """Take the answer of one query. Called by the feed."""
        before, self.watch = self.watch.since, Watch(self.watch.tenant, self.watch.user_id, now)
        if self._ended or not (changed.entries or changed.too_many):
            return
        if self._waiting + len(changed.entries) > MAX_BUFFERED:
            self.end()
            return
        self._waiting += len(changed.entries)
        self._buffer.append(Batch(cursor_of(before), cursor_of(now), changed.entries, changed.too_many))
        self._ready.set()

    def end(self) -> None:
        """The reader's next `next` raises; what is buffered is dropped, its cursor stands before it."""
        self._ended = True
        self._buffer.clear()
        self._ready.set()


class InboxFeed:
    """One instance a process; starts to listen with the first subscription."""

    def __init__(self, database: Database, *, database_url: str, poll_s: float = POLL_S) -> None:
        """`database_url` must be a direct connection: LISTEN does not survive a transaction pooler."""
        self._changes = InboxChanges(database)
        self._url = database_url
        self._poll_s = poll_s
        self._subscriptions: set[Subscription] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def subscribe(self, tenant: str, user_id: str, *, cursor: str | None = None) -> Subscription:
        """A stream from `cursor` on, or from now. Give it back with `unsubscribe`. Raises StreamEnded while stopping."""
        opening = await self._changes.open(tenant, user_id, cursor=cursor)
        if self._stopping:
            raise StreamEnded
        subscription = Subscription(
            Watch(tenant, user_id, opening.since), unread=opening.unread, resumed=opening.resumed or cursor is None
        )
        self._subscriptions.add(subscription)
        if not self._tasks:
            self._tasks = [without_deadline(self._look_forever()), without_deadline(self._listen_forever())]
        self._wake.set()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        subscription.end()

    @property
    def streams(self) -> int:
        """How many are connected."""
        return len(self._subscriptions)

    def stop(self) -> None:
        """End every stream. Call it when the server begins to shut down: it waits for open responses."""
        self._stopping = True
        for subscription in self._subscriptions:
            subscription.end()
        self._wake.set()

    async def close(self) -> None:
        """Stop, and give the LISTEN connection back."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _look_forever(self) -> None:
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._poll_s if self._subscriptions else None)
            self._wake.clear()
            began_s = time.monotonic()
            try:
                await self._look()
                await asyncio.sleep(max(GAP_S, GAP_RATIO * (time.monotonic() - began_s)))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                # Streams stay open: their cursors stand still, and the next answer has what was missed.
                _log.warning("inbox_feed_query_failed", error=type(error).__name__)
                await asyncio.sleep(self._poll_s)

    async def _look(self) -> None:
        readers: dict[Watch, list[Subscription]] = {}
        for subscription in self._subscriptions:
            readers.setdefault(subscription.watch, []).append(subscription)
        watches = list(readers)
        for start in range(0, len(watches), WATCHES_A_QUERY):
            part = watches[start : start + WATCHES_A_QUERY]
            now, found = await self._changes.since(part)
            for watch, changed in zip(part, found, strict=True):
                for subscription in readers[watch]:
                    subscription.offer(changed, now=now)

    async def _listen_forever(self) -> None:
        while not self._stopping:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await self._listen()
            await asyncio.sleep(self._poll_s)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._url, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": "tongda-inbox-listen"}
        )
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._wake.set())
            self._wake.set()  # what was committed while nobody listened
            await lost.wait()
        finally:
            connection.terminate()
