"""The lists' indexes cost those nothing who do not need them: accept, and notifications that arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from domain.channels import Channel
from infra.postgres.database import HOT_STATEMENTS
from infra.postgres.engine.ends import decide_ends
from tests.engine.support import OK, PERMANENT, Engine

HOT = """
SELECT sum(pg_stat_get_xact_tuples_hot_updated(inhrelid))::int AS hot,
       sum(pg_stat_get_xact_tuples_updated(inhrelid))::int AS all
FROM pg_inherits WHERE inhparent = 'notification'::regclass"""
SIZE = "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = $1::text::regclass"
REASONS, PARTIAL = "notification_reason", "notification_partial"


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Engine]:
    async with asyncpg.create_pool(database, min_size=1, max_size=4, server_settings=HOT_STATEMENTS) as pool:
        yield Engine.over(pool)


async def test_an_accept_and_an_arrival_write_nothing_into_the_index_of_reasons(engine: Engine) -> None:
    before = await engine.pool.fetchval(SIZE, REASONS)
    cohort, _ = await engine.planned(50)
    await engine.answer(await engine.claim(cohort), OK)
    assert await engine.pool.fetchval(SIZE, REASONS) == before
    cohort, _ = await engine.planned(5)
    await engine.answer(await engine.claim(cohort), PERMANENT)
    assert await engine.pool.fetchval(SIZE, REASONS) > before, "the look is not blind"


async def test_what_arrives_whole_or_not_at_all_writes_nothing_into_the_index_of_what_arrived_in_part(
    engine: Engine,
) -> None:
    before = await engine.pool.fetchval(SIZE, PARTIAL)
    for answer in (OK, PERMANENT):
        cohort, _ = await engine.planned(50)
        await engine.answer(await engine.claim(cohort), answer)
    assert await engine.pool.fetchval(SIZE, PARTIAL) == before
    cohort, _ = await engine.planned(user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK])
    await engine.answer(await engine.claim(cohort), OK)
    await engine.answer(await engine.claim(cohort, Channel.WEBHOOK), PERMANENT)
    assert await engine.pool.fetchval(SIZE, PARTIAL) > before, "the look is not blind"


@pytest.mark.parametrize(("status", "reason", "stays"), [("sent", None, True), ("failed", "content_refused", False)])
async def test_the_end_of_what_arrives_stays_in_its_page(
    engine: Engine,
    status: str,
    reason: str | None,
    stays: bool,  # noqa: FBT001
) -> None:
    """Catches: an index on status or final. Every end would then write into all of the table's indexes."""
    _, ids = await engine.planned(10)
    await engine.pool.execute("DELETE FROM work")
    await engine.pool.execute(
        "INSERT INTO delivery (notification_id, n, tenant, channel, status, reason) "
        "SELECT id, 1, 'acme', 'email', $2, $3 FROM unnest($1::uuid[]) id", ids, status, reason,
    )  # fmt: skip
    async with engine.pool.acquire() as connection, connection.transaction():
        await decide_ends(connection, sorted(ids))
        row = await connection.fetchrow(HOT)
    assert row is not None
    assert (row["all"], row["hot"]) == (10, 10 if stays else 0)
