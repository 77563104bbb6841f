"""Old weeks go, while traffic runs, and never one that something is still to be done for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from activities.sweep import TIDY_EVERY_S, Sweep, SweepRepositories
from domain.history import Event
from domain.ids import uuid7, uuid7_floor
from infra.clock import ManualClock
from infra.history.postgres import PostgresEventStore
from infra.postgres.lists.reading import NotificationReader
from infra.postgres.partitions import PARENTS, PartitionRepository
from tests.engine.support import TENANT, Engine, row
from tests.engine.sweeping import DriverTwin

KEEP = timedelta(days=180)
WEEKS = (30, 40, 50)
"""Ages of the old weeks that each test begins with."""


def monday(weeks_ago: int) -> datetime:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.weekday(), weeks=weeks_ago)


def old_id(weeks_ago: int) -> UUID:
    at = monday(weeks_ago) + timedelta(days=3)
    return UUID(int=uuid7_floor(at).int | (uuid7().int & ((1 << 80) - 1)))


async def weeks(pool: asyncpg.Pool) -> dict[str, set[int]]:
    """The old weeks that each table has."""
    rows = await pool.fetch("SELECT inhparent::regclass::text AS parent, inhrelid::regclass::text AS name FROM pg_inherits")
    names = {(row["parent"], row["name"]) for row in rows}
    return {p: {age for age in WEEKS if (p, f"{p}_{age}_weeks") in names} for p in PARENTS}


def everywhere(ages: Iterable[int]) -> dict[str, set[int]]:
    return {parent: set(ages) for parent in PARENTS}


@pytest.fixture(autouse=True)
async def _old_weeks(pool: asyncpg.Pool) -> AsyncIterator[None]:
    names = [(parent, f"{parent}_{age}_weeks", age) for parent in PARENTS for age in WEEKS]
    for parent, name, age in names:
        low, high = uuid7_floor(monday(age)), uuid7_floor(monday(age - 1))
        await pool.execute(f"CREATE TABLE {name} PARTITION OF {parent} FOR VALUES FROM ('{low}') TO ('{high}')")
    yield
    for _, name, _ in names:
        await pool.execute(f"DROP TABLE IF EXISTS {name}")


async def test_only_what_is_older_than_was_asked_for_goes(engine: Engine) -> None:
    """A week counts from its end; the default partition and the coming weeks stay."""
    before = await engine.pool.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass")
    assert await PartitionRepository(engine.pool, keep=timedelta(weeks=40)).drop_old() == 3
    assert await weeks(engine.pool) == everywhere({30, 40})
    assert await PartitionRepository(engine.pool, keep=timedelta(weeks=39)).drop_old() == 3
    assert await weeks(engine.pool) == everywhere({30})
    assert await PartitionRepository(engine.pool, keep=timedelta(weeks=39)).drop_old() == 0
    after = await engine.pool.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass")
    assert after == before - 2


async def test_without_a_retention_everything_stays(engine: Engine) -> None:
    assert await PartitionRepository(engine.pool).drop_old() == 0
    assert await weeks(engine.pool) == everywhere(WEEKS)


async def test_an_open_step_holds_its_week_back(engine: Engine) -> None:
    """A notification accepted long ago for a far date is still to be sent."""
    notification = old_id(40)
    await engine.accept.store([row(notification_id=notification, send_at=datetime.now(UTC) + timedelta(days=30))])
    repository = PartitionRepository(engine.pool, keep=KEEP)
    assert await repository.drop_old() == 6
    assert await weeks(engine.pool) == everywhere({40})
    assert await NotificationReader(engine.pool).one(TENANT, notification_id=notification) is not None
    await engine.pool.execute("DELETE FROM work")
    assert await repository.drop_old() == 3
    assert await NotificationReader(engine.pool).one(TENANT, notification_id=notification) is None


async def test_a_step_that_comes_meanwhile_holds_its_week_back(engine: Engine) -> None:
    """Caught: work is looked for before the lock only, and a transaction that is just writing it is not seen."""
    notification = old_id(50)
    async with engine.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE notification IN ROW EXCLUSIVE MODE")
        dropping = asyncio.create_task(PartitionRepository(engine.pool, keep=KEEP).drop_old())
        await asyncio.sleep(0.05)
        await connection.execute(
            "INSERT INTO work (notification_id, n, tenant, lane, due_at, expires_at) VALUES ($1, 0, $2, 1, now(), now())",
            notification, TENANT,
        )  # fmt: skip
        await transaction.commit()
        assert await dropping == 6
    assert await weeks(engine.pool) == everywhere({50})


async def test_one_that_another_process_drops_meanwhile_is_passed_over(engine: Engine) -> None:
    """Caught: the list of partitions waits for the other's drop, and then has a row without its bounds."""
    async with engine.pool.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("DROP TABLE event_50_weeks")
        dropping = asyncio.create_task(PartitionRepository(engine.pool, keep=KEEP).drop_old())
        await asyncio.sleep(0.05)
        await transaction.commit()
        assert await dropping == 8
    assert await weeks(engine.pool) == everywhere([])


async def test_a_long_report_is_not_waited_for_and_stops_nobody(engine: Engine) -> None:
    """Caught: a drop that queues for its lock behind a report, and every accept queues behind the drop."""
    repository = PartitionRepository(engine.pool, keep=KEEP)
    async with engine.pool.acquire() as report:
        transaction = report.transaction()
        await transaction.start()
        await report.fetch("SELECT count(*) FROM notification")
        dropping = asyncio.create_task(repository.drop_old())
        async with asyncio.timeout(60):
            while not dropping.done():
                await engine.accepted()
                await asyncio.sleep(0.01)
        assert dropping.result() == 0
        await transaction.rollback()
    assert await repository.drop_old() == 9


async def test_nothing_fails_while_weeks_go(engine: Engine) -> None:
    """Accepting, reading and recording go on, in several connections with statements planned before."""
    store, reader = PostgresEventStore(engine.pool), NotificationReader(engine.pool)
    accepted: list[UUID] = []
    stop = asyncio.Event()

    async def traffic() -> None:
        while not stop.is_set():
            (one,) = await engine.accepted()
            await store.append([Event(one, uuid7(), n=0, at=datetime.now(UTC), type="attempt")])
            assert await reader.one(TENANT, notification_id=one) is not None
            assert len(await store.timeline(one)) == 1
            assert await store.timeline(old_id(40)) == []
            accepted.append(one)

    async def more(count: int) -> None:
        wanted = len(accepted) + count
        while len(accepted) < wanted and not any(client.done() for client in clients):  # noqa: ASYNC110 - a failure ends it
            await asyncio.sleep(0.01)

    clients = [asyncio.create_task(traffic()) for _ in range(4)]
    try:
        await more(40)
        several = [PartitionRepository(engine.pool, keep=KEEP).drop_old() for _ in range(2)]
        assert sum(await asyncio.gather(*several)) == 9
        await more(40)
    finally:  # or the next test empties the tables under clients that go on
        stop.set()
        await asyncio.gather(*clients)
    assert await weeks(engine.pool) == everywhere([])
    assert await engine.pool.fetchval("SELECT count(*) FROM notification") == len(accepted)


async def test_the_sweep_drops_them(engine: Engine) -> None:
    partitions = PartitionRepository(engine.pool, keep=KEEP)
    repositories = SweepRepositories.over(engine.pool, partitions=partitions)
    await Sweep(repositories, driver=DriverTwin(), accounts=engine.accounts, poke=lambda _: None).run_once()
    assert await weeks(engine.pool) == everywhere([])


async def test_the_sweep_tidies_now_and_then_only(engine: Engine) -> None:
    """It comes every second; looking for old partitions that often would be all it does."""

    class Counted(PartitionRepository):
        looked = 0

        async def drop_old(self) -> int:
            self.looked += 1
            return await super().drop_old()

    clock, partitions = ManualClock(), Counted(engine.pool, keep=KEEP)
    repositories = SweepRepositories.over(engine.pool, partitions=partitions)
    sweep = Sweep(repositories, driver=DriverTwin(), accounts=engine.accounts, poke=lambda _: None, clock=clock)
    for span_s, looked in ((0, 1), (1, 1), (TIDY_EVERY_S - 2, 1), (1, 2), (1, 2)):
        clock.advance(timedelta(seconds=span_s))
        await sweep.run_once()
        assert partitions.looked == looked
