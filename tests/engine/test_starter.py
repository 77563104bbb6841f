"""The starter: groups and starts while something is due, and nothing that happens to it ends its lane."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client

from activities.grouping import Starter, TemporalDriver
from domain.ids import uuid7
from domain.lanes import FEW, Lane
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
    driver, cohort = TemporalDriver(client), CohortRow(uuid7(), Lane.HIGH, 1, None)
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
