"""Lists touch a bounded number of rows whatever is asked for, and whatever the statistics say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import asyncpg
import pytest

from domain.ids import uuid7
from domain.partials import AS_A_RULE
from infra.postgres.database import HOT_STATEMENTS
from infra.postgres.engine.locks import Connection
from infra.postgres.lists import pages as notification_lists
from infra.postgres.lists import ways as notification_ways
from infra.postgres.lists.pages import Filters, Position, page
from tests.lists.filling import TENANT, Filled, fill, make_weeks, summarise
from tests.lists.filters import COMMON, RARE
from tests.lists.touching import touch

EXAMINED, SEARCHED, BY_BLOCK = 2_000, 500, 100
FILLED = Filled(rows=60_000, weeks=4, one_failed_in=20_000)


@pytest.fixture(autouse=True)
def _bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification_lists, "MOST_EXAMINED", EXAMINED)
    monkeypatch.setattr(notification_lists, "MOST_SEARCHED", SEARCHED)
    monkeypatch.setattr(notification_lists, "MOST_BY_BLOCK", BY_BLOCK)


@pytest.fixture(scope="module", params=["analysed while empty", "analysed with another tenant's", "analysed"])
async def connection(
    request: pytest.FixtureRequest, module_database: str
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """60,000 notifications over four weeks, 48,000 of them acme's."""
    opened = await asyncpg.connect(module_database, server_settings=HOT_STATEMENTS)
    await opened.execute("ALTER TABLE work SET (autovacuum_enabled = off); TRUNCATE notification, work, event, delivery")
    if await opened.fetchval("SELECT to_regclass('notification_1_weeks') IS NULL"):
        await make_weeks(opened, weeks=FILLED.weeks)
    if request.param == "analysed with another tenant's":
        await fill(opened, Filled(rows=2_000, weeks=4, one_failed_in=20_000))
        await opened.execute("DELETE FROM notification WHERE tenant = 'acme'")
    await opened.execute("ANALYZE notification, work, event, delivery")
    if request.param == "analysed with another tenant's":
        await opened.execute("DELETE FROM notification")
    await fill(opened, FILLED)
    if request.param == "analysed":
        await opened.execute("ANALYZE notification, work, event, delivery")
    await summarise(opened)
    yield opened
    await opened.close()


@pytest.mark.parametrize("name", COMMON)
async def test_a_page_examines_no_more_than_it_may(name: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Catches: an index that reads more than the order needs, a sort of everything, a scan of a week."""
    found, touched = await touch(connection, **COMMON[name])
    assert touched.whole == set()
    assert touched.rows <= 2 * EXAMINED + 2 * BY_BLOCK * 400, touched
    assert touched.buffers <= 4 * EXAMINED, touched
    assert len(found.rows) > 0


@pytest.mark.parametrize("name", RARE)
async def test_what_is_rare_is_found_at_once(name: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Catches: a rare value that makes the list walk over everything, or leave the reader with empty pages."""
    wanted, index, count = RARE[name]
    found, touched = await touch(connection, **wanted)
    assert (len(found.rows), found.position) == (count, None), touched
    assert index in touched.indexes
    assert touched.whole == set()
    assert touched.buffers <= 4 * EXAMINED, touched


async def test_what_a_digest_carries_is_found_by_its_own_index(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Catches, beside many others, a walk over everything that was ever collected."""
    carrier = uuid7()
    await connection.execute("UPDATE notification SET digest = md5(user_id)::uuid WHERE user_id IS NOT NULL")
    await connection.execute(
        "UPDATE notification SET digest = $1 WHERE id IN (SELECT id FROM notification WHERE tenant = 'acme' LIMIT 3)",
        carrier,
    )
    found, touched = await touch(connection, collected_in=carrier)
    await connection.execute("UPDATE notification SET digest = NULL WHERE digest IS NOT NULL")
    assert (len(found.rows), found.position) == (3, None)
    assert touched.whole == set()
    assert touched.rows <= 50, touched


async def test_of_much_that_arrived_in_part_a_page_examines_no_more_than_it_may(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    """A third of everything arrived in part, and a tenth of that failed for the reason that is asked for: each page looks
    at the deliveries of a bounded number, and together they find all. Catches a walk over what arrived whole, and over
    every delivery."""
    await connection.execute("UPDATE notification SET partial = true WHERE status = 'delivered' AND category < 'c-3'")
    await connection.execute(
        "INSERT INTO delivery (notification_id, n, tenant, channel, status, reason) "
        "SELECT id, 1, tenant, 'email', 'failed', CASE WHEN app = 'app-3' THEN 'undelivered' ELSE 'mailbox_full' END "
        "FROM notification WHERE partial"
    )
    wanted: dict[str, Any] = {
        "partial": True,
        "channel": "email",
        "reason": "undelivered",
        "not_resent": True,
        "missed": AS_A_RULE,
    }
    expected = await connection.fetchval(
        "SELECT count(*) FROM notification WHERE partial AND app = 'app-3' AND tenant = 'acme'"
    )
    position: Position | None = None
    found: list[Any] = []
    while True:
        part, touched = await touch(connection, position=position, limit=500, **wanted)
        assert touched.whole == set()
        assert "notification_partial" in touched.indexes
        assert touched.rows <= 4 * EXAMINED, touched
        found += [row["id"] for row in part.rows]
        position = part.position
        if position is None:
            break
    await connection.execute("DELETE FROM delivery; UPDATE notification SET partial = false WHERE partial")
    assert len(found) == len(set(found)) == expected > EXAMINED


async def test_a_page_that_found_nothing_goes_on_where_it_stopped(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Text is looked for among so many at a time: honest pages, empty ones among them, that end."""
    position: Position | None = None
    pages = 0
    found: list[Any] = []
    while True:
        part, touched = await touch(connection, q="A-57", position=position)
        assert touched.buffers <= 4 * EXAMINED, touched
        pages += 1
        found += [row["id"] for row in part.rows]
        position = part.position
        if position is None:
            break
    expected = await connection.fetch(
        "SELECT id FROM notification WHERE tenant = 'acme' AND data ->> 'order' LIKE 'A-57%' ORDER BY id DESC"
    )
    assert found == [row["id"] for row in expected]
    assert pages >= 48_000 // SEARCHED


async def test_a_look_up_that_takes_too_long_is_left_to_the_walk(
    connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that nobody has summarised yet: the page is honest about more instead of failing."""
    real = notification_ways.by_block

    def slow(partition: str, *, columns: str) -> str:
        napping = "WITH nap AS MATERIALIZED (SELECT pg_sleep(9)), found"
        return real(partition, columns=columns).replace("WITH found", napping) + " WHERE (SELECT count(*) FROM nap) > 0"

    monkeypatch.setattr(notification_ways, "by_block", slow)
    monkeypatch.setattr(notification_ways, "BY_BLOCK", notification_ways.BY_BLOCK.replace("1s", "50ms"))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await page(cast("Connection", connection), TENANT, filters=Filters(template="never"), limit=50)
    assert found.rows == []
    assert found.position is not None


async def test_what_is_common_but_not_lately_is_left_to_the_walk(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """An app that stopped three weeks ago: the look-up by block gives up on a week that is full of it, and the pages go
    on."""
    await connection.execute(
        "UPDATE notification SET app = 'old' WHERE app = 'app-2' AND accepted_at < now() - interval '3 weeks'"
    )
    position: Position | None = None
    found: list[Any] = []
    while True:
        part, touched = await touch(connection, app="old", position=position, limit=500)
        assert touched.buffers <= 8 * EXAMINED, touched
        found += [row["id"] for row in part.rows]
        position = part.position
        if position is None:
            break
    await connection.execute("UPDATE notification SET app = 'app-2' WHERE app = 'old'")
    assert len(found) == len(set(found)) > BY_BLOCK
