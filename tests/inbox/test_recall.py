"""Messages that are taken back vanish from inbox and stream, unread ones only, and do not turn up later."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from api.recalls import RecallService
from channels.base import NotSent, Recall
from channels.inapp.inbox import InboxProvider
from domain.channels import Channel
from domain.errors import NotFound
from domain.ids import uuid7
from domain.recall import RecallResult
from infra.postgres.database import Database
from infra.postgres.engine.recalling import RecallRepository
from infra.postgres.inbox.items import Inbox
from infra.settings import Settings
from tests.engine.gates import done_or_blocked
from tests.inbox.conftest import TENANT, delivered, item

pytestmark = pytest.mark.postgres


def of(notification: UUID, user: str = "u-1") -> Recall:
    return Recall(notification, 1, TENANT, Channel.INAPP, user)


async def titles(inbox: Inbox, user: str = "u-1") -> list[str]:
    found = [
        entry
        for archived in (False, True)
        for entry in await inbox.listed(TENANT, user, before=None, limit=100, unread=False, archived=archived)
    ]
    return sorted(entry.title for entry in found)


async def test_it_vanishes_from_list_and_count_and_cannot_be_touched(db: Database, inbox: Inbox) -> None:
    gone, kept = await delivered(db, title="gone"), await delivered(db, title="kept")
    listed = await inbox.listed(TENANT, "u-1", before=None, limit=9, unread=True, archived=False)
    [entry] = [entry for entry in listed if entry.title == "gone"]
    assert list(await inbox.recall([of(gone)])) == [True]
    assert await titles(inbox) == ["kept"]
    assert await inbox.unread(TENANT, "u-1") == 1
    for change in (inbox.mark_read, inbox.mark_unread, inbox.archive):
        with pytest.raises(NotFound):
            await change(TENANT, "u-1", item=entry.id)
    await inbox.mark_all_read(TENANT, "u-1")
    states = await db.pool.fetch("SELECT notification_id, status FROM delivery ORDER BY notification_id")
    assert [tuple(row) for row in states] == sorted([(gone, "delivered"), (kept, "read")])
    left = await db.pool.fetchrow("SELECT title, text, url, data FROM inbox_item WHERE notification_id = $1", gone)
    assert left is not None
    assert tuple(left) == ("", "", None, None), "its words are not kept where nobody looks for them"


async def test_what_was_read_stays_also_when_it_was_marked_unread_again(db: Database, inbox: Inbox) -> None:
    notification = await delivered(db, title="seen")
    [entry] = await inbox.listed(TENANT, "u-1", before=None, limit=9, unread=False, archived=False)
    await inbox.mark_read(TENANT, "u-1", item=entry.id)
    assert list(await inbox.recall([of(notification)])) == [False]
    await inbox.mark_unread(TENANT, "u-1", item=entry.id)
    assert list(await inbox.recall([of(notification)])) == [False]
    assert await titles(inbox) == ["seen"]


async def test_a_store_that_comes_after_the_recall_stores_nothing(inbox: Inbox) -> None:
    late = item("late")
    assert list(await inbox.recall([of(late.notification_id)])) == [True]
    await inbox.store([late])
    assert await titles(inbox) == []
    assert await inbox.unread(TENANT, "u-1") == 0


async def test_a_store_that_is_under_way_is_waited_for(db: Database, inbox: Inbox, database: str) -> None:
    """Catches: a recall that does not see what is just being stored, and says that it is gone."""
    notification = uuid7()
    connection = await asyncpg.connect(database)
    storing = connection.transaction()
    await storing.start()
    await connection.execute(
        "INSERT INTO inbox_item (id, tenant, user_id, notification_id, n, title, text, category, expires_at) "
        "VALUES ($1, $2, 'u-1', $3, 1, 'under way', '', '', now() + interval '1 day')", uuid7(), TENANT, notification,
    )  # fmt: skip
    recalling = asyncio.create_task(inbox.recall([of(notification)]))
    await done_or_blocked(db.pool, recalling)
    await storing.commit()
    await connection.close()
    assert list(await recalling) == [True]
    assert await titles(inbox) == []


@pytest.mark.parametrize("turn", range(8))
async def test_reading_and_recalling_at_once_agree(db: Database, inbox: Inbox, turn: int) -> None:
    """Either it was read, and stays, or it is gone; never both, and never neither."""
    notification = await delivered(db)
    [entry] = await inbox.listed(TENANT, "u-1", before=None, limit=9, unread=False, archived=False)

    async def read() -> bool:
        try:
            return (await inbox.mark_read(TENANT, "u-1", item=entry.id)).read_at is not None
        except NotFound:
            return False

    service = RecallService(RecallRepository(db.pool), {Channel.INAPP: InboxProvider(inbox)})
    seen, done = await asyncio.gather(read(), service.recall(TENANT, notification_id=notification))
    assert (done.result is RecallResult.RECALLED) == (not seen)
    status = await db.pool.fetchval("SELECT status FROM notification WHERE id = $1", notification)
    assert status == ("read" if seen else "cancelled")
    assert (await titles(inbox) != []) == seen


async def test_without_a_database_it_says_so(db: Database, inbox: Inbox, settings: Settings) -> None:
    closed = await Database.open(settings, name="closed")
    await closed.close()
    with pytest.raises(NotSent):
        await Inbox(closed).recall([of(uuid7())])
