"""The sweep: whatever was lost on the way is found again, by a driver twin that knows what runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from domain.channels import Channel
from domain.lanes import Lane
from infra.clock import ManualClock
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.support import Engine
from tests.engine.sweeping import DriverTwin, sweep_of
from workflows.housekeeping import Swept


async def swept_for_long(engine: Engine, driver: DriverTwin) -> list[Swept]:
    """It looks, and looks again when what it saw may be called lost."""
    clock = ManualClock()
    sweep = sweep_of(engine, driver, clock=clock)
    turns = [await sweep.run_once()]
    clock.advance(HAND_OVER_LIMIT)
    return [*turns, await sweep.run_once()]


@pytest.fixture
def driver() -> DriverTwin:
    return DriverTwin()


async def lapsed(engine: Engine, count: int = 1) -> list[CohortRow]:
    made = []
    for place in range(count):
        await engine.accepted(1, tenant=f"t{place}")
        made.append(await engine.grouped())
        await engine.lapse(made[-1])
    return made


async def test_due_work_without_a_cohort_wakes_its_lane(engine: Engine, driver: DriverTwin) -> None:
    """What was due later comes due without anybody accepting anything."""
    await engine.accepted(1, lane=Lane.LOW)
    poked: list[Lane] = []
    await sweep_of(engine, driver, poked=poked).run_once()
    assert poked == [Lane.LOW]


async def test_a_cohort_with_a_living_lease_is_not_asked_about(engine: Engine, driver: DriverTwin) -> None:
    """Otherwise each sweep would ask Temporal about every open cohort."""
    await engine.accepted()
    await engine.grouped()
    swept = await sweep_of(engine, driver).run_once()
    assert (swept.redriven, driver.asked) == (0, [])


async def test_a_running_workflow_gets_a_new_lease(engine: Engine, driver: DriverTwin) -> None:
    """Catches: a redrive by the lease alone. A workflow that merely holds would be driven twice."""
    [cohort] = await lapsed(engine)
    driver.running[(cohort.id, 1)] = True
    assert (await sweep_of(engine, driver).run_once()).redriven == 0
    assert await engine.cohorts.lapsed(limit=1) == []
    assert await engine.pool.fetchval("SELECT epoch FROM cohort") == 1


async def test_a_cohort_that_nobody_drives_is_driven_in_the_next_epoch(engine: Engine, driver: DriverTwin) -> None:
    """A lost start, a terminated workflow, a deleted Temporal database: the same case."""
    [cohort] = await lapsed(engine)
    assert (await sweep_of(engine, driver).run_once()).redriven == 1
    assert driver.started == [(cohort.id, 2)]
    assert (await sweep_of(engine, driver).run_once()).redriven == 0


async def test_while_temporal_is_away_nothing_is_touched(engine: Engine, driver: DriverTwin) -> None:
    """Catches: taking `cannot be reached` for `does not run`. Each sweep would raise every epoch, and a workflow that runs
    well would be fenced off in the middle of its work. The first answer is enough for all."""
    await lapsed(engine, 3)
    driver.reachable = False
    swept = await sweep_of(engine, driver).run_once()
    assert (swept.redriven, len(driver.asked)) == (0, 1)
    assert len(await engine.cohorts.lapsed(limit=5)) == 3
    driver.reachable = True
    assert (await sweep_of(engine, driver).run_once()).redriven == 3


async def test_several_sweeps_at_once_start_each_cohort_once(engine: Engine, driver: DriverTwin) -> None:
    """Each API process sweeps; none may undo what another has just begun."""
    made = await lapsed(engine, 4)
    await asyncio.gather(*[sweep_of(engine, driver).run_once() for _ in range(3)])
    assert sorted(driver.started) == sorted((c.id, 2) for c in made)


async def test_orphans_and_lost_hand_overs_are_found(engine: Engine, driver: DriverTwin) -> None:
    """Nobody comes back for these: their cohort is gone, or its worker is and no other takes it up."""
    gone, _ = await engine.planned(2)
    await engine.pool.execute("DELETE FROM cohort WHERE id = $1", gone.id)
    other, [lost] = await engine.planned(1, tenant="other")
    await engine.claim(other)
    await engine.lose(lost, ago=timedelta(minutes=1))
    first, second = await swept_for_long(engine, driver)
    assert (first.orphans, second.unknown) == (2, 1)
    assert await engine.end(lost) == ("unknown", "answer_lost", True)


async def test_a_lost_row_that_cannot_be_written_holds_up_no_other(engine: Engine, driver: DriverTwin) -> None:
    """Caught: the sweep wrote all in one statement, without halving; one bad row, and nothing lost was found any more."""
    cohort, ids = await engine.planned(5)
    await engine.claim(cohort)
    for notification in ids:
        await engine.lose(notification, ago=timedelta(minutes=1))
    bad = ids[2]
    await engine.pool.execute(f"ALTER TABLE delivery ADD CONSTRAINT bad CHECK (notification_id <> '{bad}')")
    try:
        await swept_for_long(engine, driver)
    finally:
        await engine.pool.execute("ALTER TABLE delivery DROP CONSTRAINT bad")
    assert [r["notification_id"] for r in await engine.work()] == [bad]


async def test_what_a_crash_left_is_driven_to_its_end(engine: Engine, driver: DriverTwin) -> None:
    """The whole case on the database: killed in the middle of a plan, a claim and a chain; the next epoch ends it all."""
    cohort, ids = await engine.planned(
        4, user="u-1", channels=[Channel.EMAIL, Channel.INAPP], strategy="fallback"
    )  # fmt: skip
    await engine.claim(cohort, limit=2)
    late = await engine.accepted(2)
    await engine.pool.execute("UPDATE work SET cohort = $1 WHERE n = 0", cohort.id)
    await engine.lapse(cohort)
    await engine.pool.execute("UPDATE work SET unknown_at = now() - interval '1 minute' WHERE state = 1")
    await swept_for_long(engine, driver)
    assert driver.started == [(cohort.id, 2)]
    new = CohortRow(cohort.id, 2, cohort.lane, None)
    assert await engine.plan(new) == 2
    await engine.answer(await engine.claim(new))
    ends = [(await engine.end(i))[0] for i in [*ids, *late]]
    assert sorted(ends) == ["sent"] * 4 + ["unknown"] * 2
    assert await engine.cohorts.leave(new, horizon=timedelta(minutes=1)) == {}


async def test_the_background_sweep_survives_whatever_happens(
    engine: Engine, driver: DriverTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught: it ended for good with the first error that it did not know, in silence."""
    monkeypatch.setattr("activities.sweep.BACKGROUND_EVERY_S", 0.001)
    sweep, turns, enough = sweep_of(engine, driver), 0, asyncio.Event()

    async def failing() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            enough.set()
        raise OSError("away") if turns == 1 else KeyError("a defect")

    monkeypatch.setattr(sweep, "run_once", failing)
    task = asyncio.create_task(sweep.run_forever())
    await asyncio.wait_for(enough.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
