"""Epochs, leases and the end of a cohort."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from domain.channels import Channel
from domain.cohorts import UNPLANNED, CohortEpoch
from domain.ids import uuid7
from domain.lanes import LEASE, Lane
from infra.postgres.engine.cohorts import CohortRepository
from infra.postgres.engine.outcomes import OutcomeRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import OK, PERMANENT, RETRY, Engine

MINUTE = timedelta(minutes=1)


async def open_cohorts(engine: Engine) -> list[UUID]:
    return [row["id"] for row in await engine.pool.fetch("SELECT id FROM cohort ORDER BY id")]


async def test_a_new_epoch_needs_a_lapsed_lease(engine: Engine) -> None:
    """Catches: next_epoch without the lease. A sign of life came between the look and the change; two workflows would
    drive the cohort for nothing."""
    await engine.accepted()
    cohort = await engine.grouped()
    assert await engine.cohorts.next_epoch(cohort) is None
    await engine.lapse(cohort)
    await engine.cohorts.renew(cohort)
    assert await engine.cohorts.next_epoch(cohort) is None
    await engine.lapse(cohort)
    assert await engine.cohorts.next_epoch(cohort) == replace(cohort, epoch=2)


async def test_of_two_who_redrive_one_wins(engine: Engine) -> None:
    """Catches: next_epoch without the old epoch. The second would fence off what the first has just started."""
    await engine.accepted()
    cohort = await engine.grouped()
    await engine.lapse(cohort)
    found = await asyncio.gather(*[engine.cohorts.next_epoch(cohort) for _ in range(4)])
    assert [new.epoch for new in found if new is not None] == [2]
    await engine.lapse(cohort)
    assert await engine.cohorts.next_epoch(cohort) is None


async def test_the_new_epoch_holds_for_every_row(engine: Engine) -> None:
    """Catches: epochs kept by row. Rows that were planned, opened by fallback or in flight while the epoch changed would
    belong to both drivers or to none."""
    cohort, [_, _, lost] = await engine.planned(3, user="u-1", channels=[Channel.EMAIL, Channel.INAPP], strategy="fallback")
    failing, lost_claim = await engine.claim(cohort, limit=1), await engine.claim(cohort, limit=1)
    lost = lost_claim[0].notification_id
    new = await engine.redriven(cohort)
    await engine.answer(failing, PERMANENT)  # opens the next place, by an outcome of the old epoch
    for channel in (Channel.EMAIL, Channel.INAPP):
        assert await engine.claim(cohort, channel) == []
    assert len(await engine.claim(new, Channel.EMAIL)) == 1
    assert len(await engine.claim(new, Channel.INAPP)) == 1
    await engine.lose(lost)
    assert [c.notification_id for c in await engine.lost(new.id, limit=9)] == [lost]


async def test_an_old_epoch_leaves_nothing_behind(engine: Engine) -> None:
    """Catches: `leave` without the epoch. The old workflow would end the cohort, or release rows, under the new one."""
    cohort, [one] = await engine.planned(1)
    await engine.answer(await engine.claim(cohort), RETRY)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '1 hour'")
    new = await engine.redriven(cohort)
    assert await engine.cohorts.leave(cohort, horizon=MINUTE) == {}
    [row] = await engine.work(one)
    assert row["cohort"] == cohort.id
    await engine.pool.execute("DELETE FROM work")
    assert await engine.cohorts.leave(cohort, horizon=MINUTE) == {}
    assert await open_cohorts(engine) == [cohort.id]
    assert await engine.cohorts.leave(new, horizon=MINUTE) == {}
    assert await open_cohorts(engine) == []


async def test_a_cohort_ends_only_when_nothing_is_left(engine: Engine) -> None:
    """Catches: an end that does not look at work. What is in flight or waits would be an orphan."""
    cohort, _ = await engine.planned(2, user="u-1", channels=[Channel.EMAIL, Channel.INAPP])
    waits = await engine.cohorts.leave(cohort, horizon=MINUTE)
    assert waits == {"memory-email": 0.0, "memory-inapp": 0.0}
    claims = await engine.claim(cohort, Channel.EMAIL) + await engine.claim(cohort, Channel.INAPP)
    waits = await engine.cohorts.leave(cohort, horizon=MINUTE)
    assert all(10 < wait_s < 40 for wait_s in waits.values())  # until they would be unknown
    await engine.answer(claims, OK)
    assert await engine.cohorts.leave(cohort, horizon=MINUTE) == {}
    assert await open_cohorts(engine) == []


async def test_the_end_of_a_cohort_waits_for_a_flush(engine: Engine) -> None:
    """Catches: an end by what the plan knew. A flush is just about to open the next place of a chain; without a cohort
    that row would be nobody's until the sweep finds it."""
    cohort, _ = await engine.planned(1, user="u-1", channels=[Channel.EMAIL, Channel.INAPP], strategy="fallback")
    claims = await engine.claim(cohort)
    gate = Gate("INSERT INTO work", after=True)
    flushing = asyncio.create_task(
        OutcomeRepository(gated(engine.pool, gate)).flush([engine.answered(c, PERMANENT) for c in claims], now_s=0.0)
    )
    await gate.reached.wait()
    waits = await engine.cohorts.leave(cohort, horizon=MINUTE)
    assert list(waits) == ["memory-email"]
    gate.open.set()
    await flushing
    assert await engine.cohorts.leave(cohort, horizon=MINUTE) == {"memory-inapp": 0.0}


async def test_what_is_due_beyond_the_horizon_is_released(engine: Engine) -> None:
    """Catches: a workflow that waits for everything. One recipient who waits for three days would keep it open."""
    cohort, [near, far, flying] = await engine.planned(3)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '30 seconds' WHERE notification_id = $1", near)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '2 minutes' WHERE notification_id = $1", far)
    claims = await engine.claim(cohort)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '2 minutes' WHERE notification_id = $1", flying)
    waits = await engine.cohorts.leave(cohort, horizon=MINUTE)
    assert list(waits) == ["memory-email"]
    assert {r["notification_id"]: r["cohort"] for r in await engine.work()} == {
        near: cohort.id, far: None, flying: cohort.id,
    }  # fmt: skip
    await engine.answer(claims, OK)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '2 minutes'")
    assert await engine.cohorts.leave(cohort, horizon=MINUTE) == {}
    assert await open_cohorts(engine) == []
    assert len(await engine.work()) == 2


async def test_holding_is_told_with_a_lease_that_lasts(engine: Engine) -> None:
    """Catches: a lease shorter than the hold. The sweep would ask Temporal about every cohort that merely waits."""
    cohort, _ = await engine.planned(1)
    await engine.answer(await engine.claim(cohort), RETRY)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '50 seconds'")
    await engine.cohorts.leave(cohort, horizon=MINUTE)
    row = await engine.pool.fetchrow("SELECT holding, lease - now() AS lease FROM cohort")
    assert row is not None
    assert row["holding"]
    assert row["lease"] > LEASE + timedelta(seconds=45)
    assert await engine.admission.enter(cohort, limit=1) is not None
    assert await engine.pool.fetchval("SELECT holding FROM cohort") is False


async def test_rows_without_a_plan_are_told_apart(engine: Engine) -> None:
    """The workflow has to plan them on its next call, whatever channels they will have."""
    await engine.accepted()
    cohort = await engine.grouped()
    assert await engine.cohorts.leave(cohort, horizon=MINUTE) == {UNPLANNED: 0.0}


async def test_a_release_that_loses_a_deadlock_is_repeated(engine: Engine) -> None:
    """Caught: `leave` locks many rows too, and failed its activity with a deadlock error that says nothing about it."""
    cohort, ids = await engine.planned(2)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '1 hour'")
    async with engine.pool.acquire() as rude:
        transaction = rude.transaction()
        await transaction.start()
        await rude.execute("SET LOCAL deadlock_timeout = '1min'")
        await rude.execute("SELECT 1 FROM work WHERE notification_id = $1 FOR UPDATE", max(ids))
        leaving = asyncio.create_task(engine.cohorts.leave(cohort, horizon=MINUTE))
        await done_or_blocked(engine.pool, leaving)
        await rude.execute("SELECT 1 FROM work WHERE notification_id = $1 FOR UPDATE", min(ids))
        await transaction.rollback()
    assert await leaving == {}


async def test_orphans_are_adopted(engine: Engine) -> None:
    """Somebody deleted cohorts by hand: their rows become due by themselves, and others are left alone."""
    gone, [one] = await engine.planned(1)
    kept, [two] = await engine.planned(1, tenant="other")
    await engine.pool.execute("DELETE FROM cohort WHERE id = $1", gone.id)
    assert await engine.cohorts.adopt_orphans() == 1
    assert {r["notification_id"]: r["cohort"] for r in await engine.work()} == {one: None, two: kept.id}
    assert (await engine.grouped()).size == 1


async def test_lapsed_names_the_longest_first(engine: Engine) -> None:
    """And only what has lapsed; otherwise a page of the living would hide the dead."""
    made = []
    for place in range(3):
        await engine.accepted(tenant=f"t{place}")
        made.append(await engine.grouped())
    for cohort, age in zip(made, (1, 3), strict=False):
        await engine.pool.execute(
            "UPDATE cohort SET lease = now() - $2::interval WHERE id = $1", cohort.id, timedelta(seconds=age)
        )
    assert [c.id for c in await engine.cohorts.lapsed(limit=5)] == [made[1].id, made[0].id]
    assert [c.id for c in await engine.cohorts.lapsed(limit=1)] == [made[1].id]


@pytest.mark.parametrize("lane", list(Lane))
async def test_due_lanes_are_those_with_free_due_work(engine: Engine, lane: Lane) -> None:
    """What is due later, or has its cohort, is nobody's to group."""
    await engine.accepted(1, lane=lane)
    assert await engine.cohorts.due_lanes() == [lane]
    await engine.grouped(lane)
    assert await engine.cohorts.due_lanes() == []


async def test_a_cohort_that_does_not_exist_ends_quietly(engine: Engine) -> None:
    """A workflow whose cohort has ended finds nothing and ends, instead of failing for ever."""
    nobody = CohortEpoch(uuid7(), 1)
    assert await engine.admission.enter(nobody, limit=1) is None
    assert await CohortRepository(engine.pool).leave(nobody, horizon=MINUTE) == {}
