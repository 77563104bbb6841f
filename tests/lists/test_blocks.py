"""The block index is summarised by the sweep, and PostgreSQL's log stays quiet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from infra.postgres import blocks
from infra.postgres.blocks import BlockIndex
from infra.postgres.database import HOT_STATEMENTS
from infra.postgres.partitions import PartitionRepository
from tests.engine.support import Engine
from tests.engine.sweeping import DriverTwin, sweep_of
from tests.lists.filling import Filled, fill, make_weeks

FILLED = Filled(rows=20_000, weeks=2, one_failed_in=20_000)
ASKING = """
SELECT count(*) FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid
WHERE inhparent = 'notification_blocks'::regclass AND reloptions @> '{autosummarize=on}'"""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=4, server_settings=HOT_STATEMENTS) as opened:
        await opened.execute("ALTER TABLE work SET (autovacuum_enabled = off)")
        await filled(database, FILLED, weeks=FILLED.weeks)
        yield opened


async def filled(database: str, wanted: Filled, *, weeks: int = 0) -> None:
    connection = await asyncpg.connect(database)
    try:
        if weeks:
            await make_weeks(connection, weeks=weeks)
        await fill(connection, wanted)
    finally:
        await connection.close()


async def looked_up(pool: asyncpg.Pool) -> int:
    """Buffers that it takes to find out by the blocks that an address has never been written to."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        found = await connection.fetch(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) SELECT id FROM notification WHERE to_address = 'nobody@example.com'"
        )
    plan = "\n".join(line[0] for line in found)
    assert "_to_address" in plan or "blocks" in plan, plan
    return sum(
        int(part.split("=")[1]) for line in found[:3] for part in line[0].split() if part.startswith(("hit=", "read="))
    )


async def test_the_sweep_summarises_what_is_full(pool: asyncpg.Pool) -> None:
    """Catches: an index that knows nothing of what was accepted lately. A look-up of what is rare would read all of it."""
    before = await looked_up(pool)
    await sweep_of(Engine.over(pool), DriverTwin()).run_once()
    assert await looked_up(pool) < before / 5


async def test_no_partition_asks_autovacuum(pool: asyncpg.Pool) -> None:
    """Caught: 20 lines a second in the log, each with the accept's statement, of requests for which there was no place. A
    week that is made later is told too."""
    assert await pool.fetchval(ASKING) > 0
    partitions = PartitionRepository(pool)
    await partitions.blocks.summarise()
    assert await pool.fetchval(ASKING) == 0
    await pool.execute("SELECT ensure_partitions(9)")
    assert await pool.fetchval(ASKING) > 0
    await partitions.blocks.summarise()
    assert await pool.fetchval(ASKING) == 0


async def test_only_what_is_new_is_summarised_and_once(pool: asyncpg.Pool, database: str) -> None:
    index, other = BlockIndex(pool), BlockIndex(pool)
    assert await index.summarise() > 20
    assert (await index.summarise(), await other.summarise()) == (0, 0)
    await filled(database, Filled(rows=FILLED.rows + 1, weeks=FILLED.weeks, one_failed_in=FILLED.one_failed_in))
    assert await index.summarise() > 20


async def test_a_turn_that_is_over_goes_on_in_the_next(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a sweep that is held up by a week that nobody has summarised."""
    monkeypatch.setattr(blocks, "BLOCKS_A_STATEMENT", 8)
    index = BlockIndex(pool)
    assert await index.summarise(turn_s=0) == 0
    assert await index.summarise() > 20


async def test_nobody_waits_for_it_and_it_waits_for_nobody(pool: asyncpg.Pool) -> None:
    """A VACUUM or an index that is being made has the partition: the other ones come, and this one next time."""
    index = BlockIndex(pool)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE notification_1_weeks IN SHARE UPDATE EXCLUSIVE MODE")
        some = await index.summarise()
    assert some > 0
    assert await index.summarise() > 0
