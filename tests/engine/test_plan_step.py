"""The plan step on the database: written once, by the epoch that drives, and a bad row fails alone."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from activities.cohorts.planning import Planner
from domain.channels import Channel
from domain.lanes import MOST_INTERNAL_FAILURES
from infra.postgres.engine.plans import PlanRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import Engine, soon


async def test_a_plan_row_becomes_its_steps(engine: Engine) -> None:
    """All channels at once, each with its address and account; a drop is a delivery with its reason."""
    await engine.person("u-1")
    await engine.pool.execute("DELETE FROM identity WHERE channel = 'webhook'")
    cohort, [one] = await engine.planned(1, user="u-1", channels=[Channel.WEBHOOK, Channel.INAPP, Channel.EMAIL])
    rows = await engine.work(one)
    assert [(r["n"], r["channel"], r["account"], r["address"]) for r in rows] == [
        (2, "inapp", "memory-inapp", "u-1"),
        (3, "email", "memory-email", "a@example.com"),
    ]
    assert {r["cohort"] for r in rows} == {cohort.id}
    assert await engine.deliveries(one) == {"webhook": ("suppressed", "no_address")}
    assert await engine.events(one) == ["planned"]


async def test_a_plan_that_is_repeated_changes_nothing(engine: Engine) -> None:
    """Catches: steps that are inserted without their plan row. The COMMIT's answer was lost and the activity runs again:
    the steps, some sent by now, would be opened once more."""
    [one] = await engine.accepted()
    cohort = await engine.grouped()
    entered = await engine.admission.enter(cohort, limit=10)
    assert entered is not None
    planner = Planner(engine.plans, engine.accounts)
    for written in (1, 0):
        assert (await planner.plan(cohort, unplanned=entered.unplanned, now=entered.now)).count == written
    assert len(await engine.work(one)) == 1
    assert await engine.events(one) == ["planned"]


async def test_two_attempts_that_plan_at_once_write_one_plan(engine: Engine) -> None:
    """Catches: no lock in the plan's write. Both have the plan row in their snapshot: the second fails on the first one's
    steps, and where there are none (all dropped) it writes everything again."""
    await engine.accepted(3, expires_at=soon(-1))
    cohort = await engine.grouped()
    entered = await engine.admission.enter(cohort, limit=10)
    assert entered is not None
    gate = Gate("WITH live", after=True)
    first, second = (Planner(PlanRepository(p), engine.accounts) for p in (gated(engine.pool, gate), engine.pool))
    one = asyncio.create_task(first.plan(cohort, unplanned=entered.unplanned, now=entered.now))
    await gate.reached.wait()
    two = asyncio.create_task(second.plan(cohort, unplanned=entered.unplanned, now=entered.now))
    await done_or_blocked(engine.pool, two)
    gate.open.set()
    assert [(await one).count, (await two).count] == [3, 0]
    assert await engine.pool.fetchval("SELECT count(*) FROM event WHERE type = 'planned'") == 3


async def test_an_old_epoch_plans_nothing(engine: Engine) -> None:
    """Catches: no epoch in the plan. What it loaded before it was replaced is no longer its to write."""
    await engine.accepted()
    cohort = await engine.grouped()
    entered = await engine.admission.enter(cohort, limit=10)
    assert entered is not None
    await engine.redriven(cohort)
    assert await engine.admission.enter(cohort, limit=10) is None
    planner = Planner(engine.plans, engine.accounts)
    assert (await planner.plan(cohort, unplanned=entered.unplanned, now=entered.now)).count == 0
    [row] = await engine.work()
    assert row["n"] == 0


async def test_what_has_expired_before_the_plan_ends_there(engine: Engine) -> None:
    """Catches: a plan that does not look at the time, by the database's clock."""
    [one] = await engine.accepted(expires_at=soon(-1))
    await engine.plan(await engine.grouped())
    assert await engine.end(one) == ("expired", "expired_before_plan", True)


async def test_a_user_who_has_gone_gets_nothing(engine: Engine) -> None:
    """Erased, merged or deactivated between accept and plan."""
    [one] = await engine.accepted(1, user="u-1", channels=[Channel.INAPP, Channel.EMAIL])
    await engine.pool.execute("UPDATE person SET state = 'erased'")
    await engine.plan(await engine.grouped())
    assert await engine.end(one) == ("suppressed", "recipient_gone", True)
    assert await engine.work() == []


async def test_a_row_that_poisons_the_plan_fails_alone(engine: Engine) -> None:
    """Catches: one statement for all and no halving. One bad row would hold up its whole cohort for ever."""
    ids = await engine.accepted(7)
    bad = ids[3]
    await engine.pool.execute(f"ALTER TABLE work ADD CONSTRAINT bad CHECK (n = 0 OR notification_id <> '{bad}')")
    try:
        for turn in range(MOST_INTERNAL_FAILURES):
            cohort = await engine.grouped()
            assert await engine.plan(cohort) == (6 if turn == 0 else 0 if turn < MOST_INTERNAL_FAILURES - 1 else 1)
            await engine.make_due()
            await engine.cohorts.leave(cohort, horizon=timedelta(minutes=1))
    finally:
        await engine.pool.execute("ALTER TABLE work DROP CONSTRAINT bad")
    assert await engine.end(bad) == ("failed", "quarantined", True)
    assert sorted({r["notification_id"] for r in await engine.work()}) == sorted(set(ids) - {bad})


async def test_a_row_that_cannot_be_read_fails_alone(engine: Engine) -> None:
    """Caught: a channel that this version does not know made the loading of the whole cohort fail, again and again."""
    good, bad = await engine.accepted(2)
    await engine.pool.execute("UPDATE notification SET channels = '{fax}' WHERE id = $1", bad)
    for _ in range(MOST_INTERNAL_FAILURES):
        await engine.plan(await engine.grouped())
        await engine.make_due()
    assert [r["notification_id"] for r in await engine.work()] == [good]
    assert await engine.end(bad) == ("failed", "quarantined", True)
