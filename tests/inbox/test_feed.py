"""The live feed under races of commit order: nothing is missed, nothing waits for somebody else's transaction."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from infra.postgres.database import Database
from infra.postgres.inbox import changes as inbox_changes
from infra.postgres.inbox import feed as inbox_feed
from infra.postgres.inbox.changes import InboxChanges, cursor_of
from infra.postgres.inbox.feed import Batch, InboxFeed, StreamEnded, Subscription
from infra.postgres.inbox.items import Inbox
from tests.inbox.conftest import TENANT, item

pytestmark = pytest.mark.postgres

_INSERT = """
INSERT INTO inbox_item (id, tenant, user_id, notification_id, n, title, text, category, data, expires_at)
VALUES (gen_random_uuid(), $1, 'u-1', gen_random_uuid(), 1, $2, '', '', '{}', now() + interval '1 day')"""


@pytest.fixture
async def feed(db: Database, database: str) -> AsyncIterator[InboxFeed]:
    opened = InboxFeed(db, database_url=database, poll_s=0.2)
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def transaction(database: str) -> AsyncIterator[Any]:
    """A transaction on a connection of its own, which has already written (and so holds a transaction id)."""
    connection = await asyncpg.connect(database)
    running = connection.transaction()
    await running.start()
    await connection.execute("SELECT pg_current_xact_id()")
    try:
        yield connection
        await running.commit()
    finally:
        await connection.close()


async def titles(stream: Subscription, count: int, *, timeout_s: float = 30.0) -> list[str]:
    """The next `count` titles."""
    seen: list[str] = []
    async with asyncio.timeout(timeout_s):
        while len(seen) < count:
            if batch := await stream.next(timeout_s=0.1):
                seen += [e.title for e in batch.entries]
    return seen


async def next_batch(stream: Subscription) -> Batch:
    async with asyncio.timeout(30):
        while (batch := await stream.next(timeout_s=1)) is None:
            pass
    return batch


async def nothing(stream: Subscription) -> None:
    assert await stream.next(timeout_s=0.6) is None


async def test_an_earlier_item_that_commits_later_is_shown_too(db: Database, feed: InboxFeed, database: str) -> None:
    stream = await feed.subscribe(TENANT, "u-1")
    async with transaction(database) as first:
        await first.execute(_INSERT, TENANT, "one")
        async with transaction(database) as second:
            await second.execute(_INSERT, TENANT, "two")
        assert await titles(stream, 1) == ["two"]
        await nothing(stream)
    assert await titles(stream, 1) == ["one"]
    await nothing(stream)


async def test_an_old_open_transaction_delays_nothing_and_repeats_nothing(
    feed: InboxFeed, inbox: Inbox, database: str
) -> None:
    async with transaction(database):
        stream = await feed.subscribe(TENANT, "u-1")
        for number in range(5):
            await inbox.store([item(str(number))])
            assert await titles(stream, 1) == [str(number)]  # the transaction stays open until all have come
        await nothing(stream)
    await nothing(stream)


async def test_a_reconnect_in_the_middle_of_all_this_loses_nothing(feed: InboxFeed, inbox: Inbox, database: str) -> None:
    stream = await feed.subscribe(TENANT, "u-1")
    async with transaction(database) as first:
        await first.execute(_INSERT, TENANT, "late")
        await inbox.store([item("seen")])
        assert await titles(stream, 1) == ["seen"]
        cursor = stream.cursor
        feed.unsubscribe(stream)
        await inbox.store([item("while away")])
        again = await feed.subscribe(TENANT, "u-1", cursor=cursor)
        assert again.resumed
        assert await titles(again, 1) == ["while away"]
        cursor = again.cursor
        feed.unsubscribe(again)
    last = await feed.subscribe(TENANT, "u-1", cursor=cursor)
    assert await titles(last, 1) == ["late"]
    await nothing(last)


async def test_a_batch_that_was_cut_off_is_repeated(feed: InboxFeed, inbox: Inbox) -> None:
    stream = await feed.subscribe(TENANT, "u-1")
    await inbox.store([item("one"), item("two")])
    batch = await next_batch(stream)
    feed.unsubscribe(stream)
    again = await feed.subscribe(TENANT, "u-1", cursor=batch.before)
    assert sorted(await titles(again, 2)) == ["one", "two"]


async def test_read_and_archive_from_another_device_come_as_changes(feed: InboxFeed, inbox: Inbox) -> None:
    await inbox.store([item("one")])
    stream = await feed.subscribe(TENANT, "u-1")
    assert stream.unread == 1
    (entry,) = await inbox.listed(TENANT, "u-1", before=None, limit=1, unread=False, archived=False)
    for act in (inbox.mark_read, inbox.archive):
        await act(TENANT, "u-1", item=entry.id)
        batch = await next_batch(stream)
    assert batch.entries[0].read_at is not None
    assert batch.entries[0].archived_at is not None


async def test_everyone_gets_their_own_from_one_query(
    feed: InboxFeed, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    since = InboxChanges.since

    async def counted(self: InboxChanges, watches: Any) -> Any:
        asked.append(len(watches))
        return await since(self, watches)

    monkeypatch.setattr(InboxChanges, "since", counted)
    streams = [await feed.subscribe(TENANT, user) for user in ("u-1", "u-2", "u-1")]
    streams.append(await feed.subscribe("other", "u-1"))
    await nothing(streams[0])
    await inbox.store([item("a"), item("b", user="u-2"), item("c", tenant="other")])
    assert [await titles(s, 1) for s in streams] == [["a"], ["b"], ["a"], ["c"]]
    for stream in streams:
        await nothing(stream)
    assert asked[-1] == 3, "streams of one user that are at the same place share a row of the query"


async def test_a_slow_reader_is_cut_off_and_resumes(feed: InboxFeed, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_feed, "MAX_BUFFERED", 5)
    slow, quick = await feed.subscribe(TENANT, "u-1"), await feed.subscribe(TENANT, "u-1")
    cursor = slow.cursor
    for number in range(8):
        await inbox.store([item(str(number))])
        assert await titles(quick, 1) == [str(number)]
    with pytest.raises(StreamEnded):
        await slow.next(timeout_s=1)
    feed.unsubscribe(slow)
    monkeypatch.setattr(inbox_feed, "MAX_BUFFERED", 1000)
    assert await titles(await feed.subscribe(TENANT, "u-1", cursor=cursor), 8) == [str(n) for n in range(8)]


async def test_too_much_at_once_asks_for_the_list_once(
    feed: InboxFeed, inbox: Inbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_changes, "MAX_CHANGES", 5)
    async with transaction(database):  # holds the oldest transaction back: the naive cursor would ask for ever
        stream = await feed.subscribe(TENANT, "u-1")
        await inbox.store([item(str(n)) for n in range(20)])
        batch = await next_batch(stream)
        assert (batch.too_many, batch.entries) == (True, ())
        await inbox.store([item("next")])
        assert await titles(stream, 1) == ["next"]


@pytest.mark.parametrize(
    "cursor", ["", "7", "x", "9000000000000:9000000000000:", "5:3:", "10:20:30", "1:2:3,1", "9" * 5000]
)
async def test_a_cursor_that_cannot_be_continued_starts_anew_and_says_so(
    feed: InboxFeed, inbox: Inbox, cursor: str
) -> None:
    stream = await feed.subscribe(TENANT, "u-1", cursor=cursor)
    assert not stream.resumed
    await inbox.store([item("new")])
    assert await titles(stream, 1) == ["new"]


async def test_losing_the_listening_connection_costs_a_poll_at_most(feed: InboxFeed, inbox: Inbox, db: Database) -> None:
    stream = await feed.subscribe(TENANT, "u-1")
    await inbox.store([item("one")])
    assert await titles(stream, 1) == ["one"]
    await db.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tongda-inbox-listen'"
        " AND datname = current_database()"
    )
    await inbox.store([item("two")])
    assert await titles(stream, 1) == ["two"]


async def test_streams_hold_no_connection_and_end_when_the_feed_stops(feed: InboxFeed, db: Database) -> None:
    streams = [await feed.subscribe(TENANT, "u-1") for _ in range(200)]
    await nothing(streams[0])
    held = db.pool.get_size() - db.pool.get_idle_size()
    assert held <= 1
    feed.stop()
    for stream in streams:
        with pytest.raises(StreamEnded):
            await stream.next(timeout_s=1)
    with pytest.raises(StreamEnded):
        await feed.subscribe(TENANT, "u-1")


def test_a_very_long_cursor_is_cut_to_its_safe_part() -> None:
    running = ",".join(str(n) for n in range(1000, 1400))
    assert cursor_of(f"1000:2000:{running}") == "1000:1000:"
    assert cursor_of("10:20:10,14") == "10:20:10,14"


async def test_writers_at_random_reach_every_stream_exactly_once(feed: InboxFeed, database: str, db: Database) -> None:
    """Many overlapping transactions, some rolled back, with reconnects in between."""
    stream = await feed.subscribe(TENANT, "u-1")
    expected: set[str] = set()

    async def write(number: int) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with transaction(database) as connection:
                await asyncio.sleep((number * 7 % 13) / 100)
                await connection.execute(_INSERT, TENANT, str(number))
                await asyncio.sleep((number * 5 % 11) / 100)
                if number % 5 == 0:
                    raise ZeroDivisionError
            expected.add(str(number))

    async def all_writers() -> None:
        gate = asyncio.Semaphore(8)

        async def gated(number: int) -> None:
            async with gate:
                await write(number)

        await asyncio.gather(*(gated(n) for n in range(60)))

    writers = asyncio.create_task(all_writers())
    seen: list[str] = []
    deadline = time.monotonic() + 30
    while not writers.done() or len(seen) < len(expected):
        assert time.monotonic() < deadline, expected - set(seen)
        if batch := await stream.next(timeout_s=0.05):
            seen += [e.title for e in batch.entries]
        elif len(seen) % 3 == 0:
            cursor = stream.cursor
            feed.unsubscribe(stream)
            stream = await feed.subscribe(TENANT, "u-1", cursor=cursor)
    await writers
    assert sorted(seen) == sorted(expected)
