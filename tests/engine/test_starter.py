"""The starter: groups and starts while something is due, and nothing that happens to it ends its lane."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest
from temporalio.client import Client

from activities.grouping import Starter, TemporalDriver
from domain.ids import uuid7
from domain.lanes import ADMISSION_LEASE, FEW, Lane
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.support import Engine
from tests.engine.sweeping import DriverTwin


async def test_it_starts_until_nothing_is_due(engine: Engine) -> None:
    """Each tenant of the low lane that has many gets a cohort and a workflow of its own."""
    for tenant in "abc":
        await engine.accepted(FEW + 1, lane=Lane.LOW, tenant=tenant)
    driver = DriverTwin()
    assert await Starter(engine.cohorts, driver).group_all(Lane.LOW) == 3
    assert len(driver.started) == 3
    assert {epoch for _, epoch in driver.started} == {1}


async def test_a_start_that_fails_is_left_to_the_sweep_soon(engine: Engine) -> None:
    """Catches: grouping on while Temporal is away. Every row would sit in a cohort that nobody drives; and a lease of a
    full minute would have it wait that long after Temporal is back."""
    for tenant in "abc":
        await engine.accepted(1, lane=Lane.LOW, tenant=tenant)
    driver = DriverTwin()
    driver.reachable = False
    assert await Starter(engine.cohorts, driver).group_all(Lane.LOW) == 1
    assert await engine.pool.fetchval("SELECT lease < now() + interval '3 seconds' FROM cohort")


async def test_a_temporal_that_was_never_reached_is_away_and_no_error() -> None:
    """Caught: a lazy client raises RuntimeError at its first call. It ended the starter's loops and the sweep of an API
    process that came up before Temporal, for good."""
    client = await Client.connect("127.0.0.1:1", lazy=True)
    driver, cohort = TemporalDriver(client), CohortRow(uuid7(), 1, Lane.HIGH, None)
    assert await driver.start(cohort) is False
    assert await driver.is_running(cohort) is None


async def test_its_loops_survive_whatever_happens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught: an error that it did not know ended the lane's loop in silence; only the sweep went on grouping."""
    monkeypatch.setattr("activities.grouping.AGAIN_AFTER_S", 0.001)
    started = asyncio.Event()

    class Odd(DriverTwin):
        failures = 2

        async def start(self, cohort: CohortRow) -> bool:
            if self.failures:
                self.failures -= 1
                raise KeyError("a defect")
            started.set()
            return True

    for tenant in "abc":
        await engine.accepted(FEW + 1, lane=Lane.LOW, tenant=tenant)
    starter = Starter(engine.cohorts, Odd())
    starter.start()
    starter.poke(Lane.LOW)
    await asyncio.wait_for(started.wait(), 30)
    await starter.stop()


class Taker:
    """A lane in which a cohort takes on what becomes due, and a starter that counts how often it groups."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.driver = DriverTwin()
        self.groupings = 0
        self.trusts = asyncio.Event()
        """It has asked for how long a cohort takes on."""
        self.starter = Starter(self, self.driver)  # type: ignore[arg-type]  # as a repository, as far as it is asked

    async def group(self, lane: Lane) -> CohortRow | None:
        self.groupings += 1
        return await self.engine.cohorts.group(lane)

    async def taken_on_for(self, lane: Lane) -> float:
        self.trusts.set()
        return await self.engine.cohorts.taken_on_for(lane)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[CohortRow]:
        await self.engine.accepted(1, lane=Lane.HIGH)
        cohort = await self.engine.grouped(Lane.HIGH)
        entered = await self.engine.admission.enter(cohort, limit=10, admits=True)
        assert entered is not None
        assert entered.admits
        self.starter.start()
        try:
            async with asyncio.timeout(30):
                yield cohort
        finally:
            await self.starter.stop()

    async def started(self) -> None:
        while not self.driver.started:  # noqa: ASYNC110 - a list has no events
            await asyncio.sleep(0.01)


async def test_what_a_cohort_takes_on_is_left_to_it(engine: Engine) -> None:
    """Catches: a grouping, which finds nothing, for each message that is accepted."""
    taker = Taker(engine)
    async with taker.at_work():
        taker.starter.accepted(Lane.HIGH)
        await taker.trusts.wait()
        for _ in range(50):
            taker.starter.accepted(Lane.HIGH)
            await asyncio.sleep(0)
        assert taker.groupings == 1


async def test_what_was_left_to_a_cohort_that_is_gone_is_grouped(engine: Engine) -> None:
    """Catches: nobody looks again. Its worker was killed, or it ended between the look and the message."""
    taker = Taker(engine)
    async with taker.at_work() as cohort:
        taker.starter.accepted(Lane.HIGH)
        await taker.trusts.wait()
        await engine.pool.execute("UPDATE cohort SET takes_until = NULL WHERE id = $1", cohort.id)
        await engine.accepted(1, lane=Lane.HIGH)
        taker.starter.accepted(Lane.HIGH)
        await taker.started()


async def test_whoever_stops_taking_on_is_heard_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a worker that stops and has its own last message wait as others' may."""
    monkeypatch.setattr("activities.grouping.TRUSTED_S", float("inf"))
    taker = Taker(engine)
    async with taker.at_work() as cohort:
        await engine.pool.execute("UPDATE cohort SET takes_until = now() + $1", ADMISSION_LEASE)
        monkeypatch.setattr(taker, "taken_on_for", hours(taker.trusts))
        taker.starter.accepted(Lane.HIGH)
        await taker.trusts.wait()
        await engine.accepted(1, lane=Lane.HIGH)
        await engine.admission.stop_admitting(cohort)
        taker.starter.poke(Lane.HIGH)
        await taker.started()


def hours(asked: asyncio.Event) -> Callable[[Lane], Coroutine[None, None, float]]:
    async def taken_on_for(_: Lane) -> float:
        asked.set()
        return 3600.0

    return taken_on_for


async def test_no_time_of_another_clock_is_trusted(engine: Engine) -> None:
    """A clock of PostgreSQL that was set back leaves a time further ahead than anybody sets it."""
    taker = Taker(engine)
    async with taker.at_work() as cohort:
        assert 0 < await engine.cohorts.taken_on_for(Lane.HIGH) <= ADMISSION_LEASE.total_seconds()
        assert await engine.cohorts.taken_on_for(Lane.MEDIUM) == 0
        await engine.pool.execute("UPDATE cohort SET takes_until = now() + interval '1 hour' WHERE id = $1", cohort.id)
        assert await engine.cohorts.taken_on_for(Lane.HIGH) == 0
