"""Partitions by time: always ahead, and never a reason to refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from domain.ids import uuid7, uuid7_floor
from infra.postgres.partitions import PartitionRepository
from tests.engine.support import Engine, row


async def partition_of(pool: asyncpg.Pool, notification: UUID) -> str:
    name: str = await pool.fetchval("SELECT tableoid::regclass::text FROM notification WHERE id = $1", notification)
    return name


async def partitions(pool: asyncpg.Pool) -> set[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'notification'::regclass"
    )
    return {row["name"] for row in rows}


async def test_partitions_are_made_ahead_and_again_when_missing(engine: Engine) -> None:
    """Otherwise everything lands in the default partition, which can never be dropped."""
    week = (datetime.now(UTC) + timedelta(days=7)).strftime("notification_%GW%V").replace("W", "w")
    assert week in await partitions(engine.pool)
    assert await PartitionRepository(engine.pool).ensure() == 0
    await engine.pool.execute(f"DROP TABLE {week}")
    assert await PartitionRepository(engine.pool).ensure() == 1
    assert week in await partitions(engine.pool)


async def test_an_id_of_today_lands_in_its_week(engine: Engine) -> None:
    """The range of a week of ids is the week: UTC, from Monday."""
    one = row()
    await engine.accept.store([one])
    expected = datetime.now(UTC).strftime("notification_%GW%V").replace("W", "w")
    assert await partition_of(engine.pool, one[0]) == expected


async def test_an_id_outside_all_ranges_is_stored_too(engine: Engine) -> None:
    """Catches: no default partition. A machine whose clock is wrong would have every accept refused."""
    for wrong in (datetime(2001, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)):
        strange = UUID(int=uuid7_floor(wrong).int | (uuid7().int & ((1 << 80) - 1)))
        await engine.accept.store([row(notification_id=strange)])
        assert await partition_of(engine.pool, strange) == "notification_default"
    cohort = await engine.grouped()
    assert await engine.plan(cohort) == 2


async def test_a_stray_id_stops_no_later_partition(engine: Engine) -> None:
    """Caught: a row in the default partition whose week comes makes CREATE TABLE fail, and with it every later week, each
    sweep, and the start of the service."""
    future = datetime.now(UTC) + timedelta(weeks=5)
    stray = UUID(int=uuid7_floor(future).int | (uuid7().int & ((1 << 80) - 1)))
    await engine.accept.store([row(notification_id=stray)])
    assert await partition_of(engine.pool, stray) == "notification_default"
    assert await engine.pool.fetchval("SELECT ensure_partitions(7)") > 0
    made = await partitions(engine.pool)
    assert (future + timedelta(weeks=1)).strftime("notification_%GW%V").replace("W", "w") in made
    assert future.strftime("notification_%GW%V").replace("W", "w") not in made
