"""Storing once, reading, marking: what a person and the timeline see."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from channels.base import NotSent
from domain.errors import NotFound
from infra.postgres.database import Database
from infra.postgres.inbox.items import Inbox, InboxEntry
from tests.inbox.conftest import TENANT, delivered, item

pytestmark = pytest.mark.postgres


async def everything(inbox: Inbox, user: str = "u-1", *, unread: bool = False, archived: bool = False) -> list[InboxEntry]:
    return await inbox.listed(TENANT, user, before=None, limit=100, unread=unread, archived=archived)


async def status_of(db: Database, notification: UUID) -> tuple[str, bool]:
    row = await db.pool.fetchrow("SELECT status, final FROM notification WHERE id = $1", notification)
    assert row is not None
    return row["status"], row["final"]


async def events_of(db: Database, notification: UUID) -> list[str]:
    return [r["type"] for r in await db.pool.fetch("SELECT type FROM event WHERE notification_id = $1", notification)]


async def test_the_same_delivery_is_stored_once(inbox: Inbox) -> None:
    one, two = item("one"), item("two")
    await inbox.store([one, two, one])
    await asyncio.gather(*(inbox.store([two, one]) for _ in range(5)))
    assert sorted(e.title for e in await everything(inbox)) == ["one", "two"]
    assert await inbox.unread(TENANT, "u-1") == 2


async def test_what_is_over_stays_and_shows_until_when_it_was_to_be_delivered(inbox: Inbox) -> None:
    over = replace(item("ends at noon"), expires_at=datetime.now(UTC) - timedelta(days=3))
    await inbox.store([over])
    (shown,) = await everything(inbox)
    assert (shown.title, shown.expires_at) == (over.title, over.expires_at)
    assert await inbox.unread(TENANT, "u-1") == 1


async def test_text_that_postgresql_refuses_does_not_take_its_batch_with_it(inbox: Inbox) -> None:
    await inbox.store([item("nul \x00 here"), item("half \ud800 pair"), item("fine")])
    assert {e.title for e in await everything(inbox)} == {"nul  here", "half ? pair", "fine"}


async def test_storing_without_a_database_says_not_sent(db: Database, inbox: Inbox) -> None:
    await db.pool.execute("ALTER TABLE inbox_item RENAME TO elsewhere")
    with pytest.raises(NotSent):
        await inbox.store([item("lost")])


async def test_reading_moves_delivery_and_notification_and_writes_one_event(db: Database, inbox: Inbox) -> None:
    notification = await delivered(db)
    (entry,) = await everything(inbox)
    assert (await inbox.mark_read(TENANT, "u-1", item=entry.id)).read_at is not None
    await inbox.mark_unread(TENANT, "u-1", item=entry.id)
    await asyncio.gather(*(inbox.mark_read(TENANT, "u-1", item=entry.id) for _ in range(4)))
    assert await status_of(db, notification) == ("read", True)
    assert await events_of(db, notification) == ["read"]
    row = await db.pool.fetchrow(
        "SELECT status, read_at, delivered_at FROM delivery WHERE notification_id = $1", notification
    )
    assert row is not None
    assert (row["status"], row["read_at"] >= row["delivered_at"]) == ("read", True)


async def test_reading_before_the_outcome_is_recorded_is_kept_and_ends_nothing(db: Database, inbox: Inbox) -> None:
    notification = await delivered(db, recorded=False)
    (entry,) = await everything(inbox)
    await inbox.mark_read(TENANT, "u-1", item=entry.id)
    assert await status_of(db, notification) == ("processing", False)
    assert await db.pool.fetchval("SELECT status FROM delivery WHERE notification_id = $1", notification) == "read"


async def test_unread_and_archive_are_the_readers_own(db: Database, inbox: Inbox) -> None:
    notification = await delivered(db)
    (entry,) = await everything(inbox)
    await inbox.mark_read(TENANT, "u-1", item=entry.id)
    assert (await inbox.mark_unread(TENANT, "u-1", item=entry.id)).read_at is None
    assert (await status_of(db, notification))[0] == "read"
    assert (await inbox.archive(TENANT, "u-1", item=entry.id)).archived_at is not None
    assert await everything(inbox) == []
    assert [e.id for e in await everything(inbox, archived=True)] == [entry.id]
    assert await inbox.unread(TENANT, "u-1") == 0


async def test_read_all_marks_more_than_a_page_and_leaves_others_alone(
    db: Database, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.postgres.inbox.items.PAGE", 4)
    notifications = [await delivered(db) for _ in range(10)]
    await delivered(db, user="u-2")
    counts = await asyncio.gather(*(inbox.mark_all_read(TENANT, "u-1") for _ in range(3)))
    assert max(counts) >= 1
    assert await inbox.unread(TENANT, "u-1") == 0
    assert await inbox.unread(TENANT, "u-2") == 1
    assert [await events_of(db, n) for n in notifications] == [["read"]] * 10


async def test_pages_are_newest_first_without_gaps(inbox: Inbox) -> None:
    for number in range(7):
        await inbox.store([item(str(number))])
    seen: list[str] = []
    before: UUID | None = None
    while page := await inbox.listed(TENANT, "u-1", before=before, limit=3, unread=False, archived=False):
        seen += [e.title for e in page]
        before = page[-1].id
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize(("tenant", "user"), [("other", "u-1"), (TENANT, "u-2")])
async def test_somebody_elses_item_is_not_found(inbox: Inbox, tenant: str, user: str) -> None:
    await inbox.store([item("mine")])
    (entry,) = await everything(inbox)
    for act in (inbox.mark_read, inbox.mark_unread, inbox.archive):
        with pytest.raises(NotFound):
            await act(tenant, user, item=entry.id)
    assert (await everything(inbox)) == [entry]
