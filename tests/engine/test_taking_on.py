"""A cohort that is at work takes on what becomes due, and nobody groups it meanwhile; whoever has few goes first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from activities.accounts.slots import Slots
from activities.cohorts.planning import Planner, Written
from activities.pace import Pace, Paced, Unpaced
from domain.lanes import ADMISSION_LEASE, FEW, POLICIES, SHORT, Lane, driven_by
from infra.postgres.engine import plans
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.ends import decide_ends
from tests.engine.driving import HeldProvider, accounts_of, activities, drive
from tests.engine.support import Engine, soon

HIGH, MEDIUM, LOW = Lane.HIGH, Lane.MEDIUM, Lane.LOW


async def at_work(engine: Engine, lane: Lane = HIGH) -> CohortRow:
    """A shared cohort whose workflow has begun, and takes on."""
    await engine.accepted(1, lane=lane)
    cohort = await engine.grouped(lane)
    entered = await engine.admission.enter(cohort, limit=10, admits=True)
    assert entered is not None
    assert entered.admits
    return cohort


async def take_on(engine: Engine, cohort: CohortRow, *, limit: int = 10, few: int | None = None) -> int:
    taken = await engine.admission.admit_due(cohort, lane=cohort.lane, limit=limit, few=few)
    return taken.size


async def test_what_becomes_due_joins_the_cohort_at_work(engine: Engine) -> None:
    """It comes with what its plan needs, is driven by that cohort alone, and counts as its own."""
    cohort = await at_work(engine)
    ids = await engine.accepted(3, lane=HIGH)
    await engine.accepted(1, lane=HIGH, send_at=soon(60))
    taken = await engine.admission.admit_due(cohort, lane=HIGH, limit=10, few=None)
    assert taken.size == 3
    assert {one.notification_id for one in taken.unplanned} == set(ids)
    assert all(one.request is not None for one in taken.unplanned)
    assert await engine.pool.fetchval("SELECT size FROM cohort WHERE id = $1", cohort.id) == 4


async def test_nobody_groups_what_a_cohort_takes_on(engine: Engine) -> None:
    """Catches: a workflow for every message that comes while another is at work, which costs twenty times as much."""
    cohort = await at_work(engine)
    await engine.accepted(1, lane=HIGH)
    assert await engine.cohorts.group(HIGH) is None
    assert await take_on(engine, cohort) == 1
    await engine.accepted(1, lane=HIGH)
    await engine.admission.stop_admitting(cohort)
    assert await engine.cohorts.group(HIGH) is not None


async def test_a_killed_worker_holds_up_its_lane_for_moments_only(engine: Engine) -> None:
    """Catches: what it said that it takes on counts for ever; and a clock of PostgreSQL that was set back has the lane wait
    for as long as it was."""
    cohort = await at_work(engine)
    await engine.accepted(1, lane=HIGH)
    await engine.pool.execute("UPDATE cohort SET takes_until = now() WHERE id = $1", cohort.id)
    assert await engine.cohorts.group(HIGH) is not None
    await engine.accepted(1, lane=HIGH)
    await engine.pool.execute("UPDATE cohort SET takes_until = now() + interval '1 hour' WHERE id = $1", cohort.id)
    assert await engine.cohorts.group(HIGH) is not None


async def test_where_much_is_due_others_help(engine: Engine) -> None:
    """Catches: one process for all of a busy lane."""
    cohort = await at_work(engine)
    await engine.accepted(8, lane=HIGH)
    assert await take_on(engine, cohort, limit=5) == 5
    assert await engine.cohorts.group(HIGH) is not None


async def test_others_help_whoever_has_more_than_its_share(engine: Engine) -> None:
    """Catches: help only where every place was taken. Shares are rounded down: three tenants never fill a group, and one
    that floods beside others who send single messages would get a few places a group for as long as they do."""
    cohort = await at_work(engine)
    for tenant, count in (("loud", 4), ("a", 1), ("b", 1)):
        await engine.accepted(count, lane=HIGH, tenant=tenant)
    taken = await engine.admission.admit_due(cohort, lane=HIGH, limit=8, few=None)
    assert (taken.size, taken.more) == (4, True)
    assert await engine.cohorts.group(HIGH) is not None


async def test_an_epoch_that_was_replaced_takes_nothing(engine: Engine) -> None:
    """Catches: no fence. Two workflows would drive the same rows."""
    cohort = await at_work(engine)
    await engine.accepted(2, lane=HIGH)
    again = await engine.redriven(cohort)
    assert await take_on(engine, cohort) == 0
    assert await engine.pool.fetchval("SELECT count(*) FROM work WHERE cohort IS NULL") == 2
    assert await take_on(engine, again) == 2


async def test_takers_at_once_never_share_a_row(engine: Engine) -> None:
    """Catches: no lock in the pick."""
    first, second = await at_work(engine), await at_work_too(engine)
    await engine.accepted(30, lane=HIGH)
    sizes = await asyncio.gather(*[take_on(engine, one, limit=4) for one in (first, second) * 4])
    held = Counter(r["cohort"] for r in await engine.pool.fetch("SELECT cohort FROM work WHERE cohort IS NOT NULL"))
    assert sum(sizes) + 2 == sum(held.values())


async def test_of_two_that_take_on_the_older_goes_on(engine: Engine) -> None:
    """Two are started where messages come faster than a workflow begins. Catches: both look by turns, and each group is of
    half as many; and both leave it to each other."""
    first = await at_work(engine)
    second = await at_work_too(engine)
    await engine.pool.execute("UPDATE cohort SET takes_until = now() + $1", ADMISSION_LEASE)
    await engine.accepted(1, lane=HIGH)
    taken = [
        await engine.admission.admit_due(one, lane=HIGH, limit=10, few=None) for one in (first, second)
    ]  # fmt: skip
    assert [one.is_second for one in taken] == [False, True]
    await engine.admission.stop_admitting(first)
    taken.append(await engine.admission.admit_due(second, lane=HIGH, limit=10, few=None))
    assert not taken[-1].is_second


async def test_the_second_that_takes_on_hands_over_what_it_has_and_ends(engine: Engine) -> None:
    """While the older one is at work. Catches: two that look by turns for as long as messages come."""
    first = await at_work(engine)
    await engine.pool.execute("UPDATE cohort SET takes_until = NULL")
    [mine] = await engine.accepted(1, lane=HIGH)
    second = await engine.grouped(HIGH)
    provider = HeldProvider()
    await provider.let_go()
    running = asyncio.create_task(activities(engine, accounts=accounts_of(provider)).deliver(drive(second)))
    async with asyncio.timeout(8):
        while not running.done():
            await engine.pool.execute(
                "UPDATE cohort SET takes_until = now() + $2 WHERE id = $1", first.id, ADMISSION_LEASE
            )  # fmt: skip
            await engine.accepted(1, lane=HIGH)
            await asyncio.sleep(0.005)
    assert (await running).waits_s == {}
    assert (await engine.end(mine))[2], "it has ended"


async def at_work_too(engine: Engine) -> CohortRow:
    await engine.pool.execute("UPDATE cohort SET takes_until = NULL")
    return await at_work(engine)


async def test_tenants_with_few_share_a_cohort_and_one_with_many_does_not(engine: Engine) -> None:
    """Catches: a workflow for each tenant's single message; and the bulk of one in the cohort that others' few wait for."""
    await engine.accepted(FEW + 1, lane=MEDIUM, tenant="many")
    await engine.accepted(2, lane=MEDIUM, tenant="a")
    await engine.accepted(1, lane=MEDIUM, tenant="b")
    shared, own = await engine.grouped(MEDIUM), await engine.grouped(MEDIUM)
    assert (shared.tenant, shared.size) == (None, 3)
    assert (own.tenant, own.size) == ("many", FEW + 1)


async def test_one_with_many_is_grouped_while_a_cohort_takes_on_the_few(engine: Engine) -> None:
    """Catches: bulk that waits until nobody has few messages any more; and a taker that takes the bulk."""
    shared = await at_work(engine, MEDIUM)
    await engine.accepted(FEW + 1, lane=MEDIUM, tenant="many")
    await engine.accepted(1, lane=MEDIUM, tenant="a")
    assert await take_on(engine, shared, few=FEW) == 1
    own = await engine.cohorts.group(MEDIUM)
    assert own is not None
    assert own.tenant == "many"


async def test_a_tenants_own_cohort_takes_on_nothing(engine: Engine) -> None:
    """It is bulk: it would keep the few from being grouped."""
    await engine.accepted(FEW + 1, lane=MEDIUM, tenant="many")
    own = await engine.grouped(MEDIUM)
    entered = await engine.admission.enter(own, limit=500, admits=True)
    assert entered is not None
    assert not entered.admits


async def test_an_activity_delivers_what_it_took_on(engine: Engine) -> None:
    """One workflow for all of it. Catches: what came meanwhile is left to nobody when the cohort ends."""
    provider = HeldProvider()
    pokes: list[Lane] = []
    await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    work = activities(engine, accounts=accounts_of(provider), poke=pokes.append)
    running = asyncio.create_task(work.deliver(drive(cohort)))
    await provider.until(lambda: len(provider.waiting) == 1)
    await engine.accepted(2, lane=HIGH)
    await provider.until(lambda: len(provider.waiting) == 3)  # although the first is still being handed over
    await provider.let_go()
    driven = await running
    assert (driven.handed_over, driven.waits_s) == (3, {})
    assert await engine.pool.fetchval("SELECT count(*) FROM cohort") == 0
    assert pokes, "whatever came at the very end is grouped by others"


async def test_whoever_finds_nothing_says_again_that_it_takes_on(engine: Engine) -> None:
    """Catches: what comes while it lingers is grouped by others, and goes through Temporal."""
    cohort = await at_work(engine)
    await engine.pool.execute("UPDATE cohort SET takes_until = now() + $1", ADMISSION_LEASE / 4)
    assert await take_on(engine, cohort) == 0
    assert await engine.pool.fetchval("SELECT takes_until > now() + $1 FROM cohort", ADMISSION_LEASE / 2)


async def test_a_cohort_of_the_high_lane_lingers(engine: Engine) -> None:
    """Catches: every lone message in a workflow of its own. This one comes after the last has been recorded, and later than
    anybody keeps to what was said that long ago."""
    provider = HeldProvider()
    await provider.let_go()
    [first] = await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    running = asyncio.create_task(activities(engine, accounts=accounts_of(provider)).deliver(drive(cohort)))
    while not (await engine.end(first))[2]:  # noqa: ASYNC110 - a table has no events
        await asyncio.sleep(0.01)
    await asyncio.sleep(ADMISSION_LEASE.total_seconds() * 1.2)
    await engine.accepted(1, lane=HIGH)
    assert await engine.cohorts.group(HIGH) is None
    assert (await running).handed_over == 2
    assert await engine.pool.fetchval("SELECT count(*) FROM cohort") == 0


async def test_what_was_taken_on_and_not_planned_waits_for_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught: a plan that lost a race was tried again only when everything else of the cohort had been answered."""
    provider, real, plans = HeldProvider(), Planner.plan, 0

    async def plan(planner: Planner, *arguments: Any, **options: Any) -> Written:
        nonlocal plans
        plans += 1
        if plans == 2:
            raise asyncpg.DeadlockDetectedError
        return await real(planner, *arguments, **options)

    monkeypatch.setattr(Planner, "plan", plan)
    await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    await engine.accepted(1, lane=HIGH)
    running = asyncio.create_task(activities(engine, accounts=accounts_of(provider)).deliver(drive(cohort)))
    await provider.until(lambda: len(provider.waiting) == 2)
    await provider.let_go()
    assert (await running).handed_over == 2


async def test_a_cohort_that_is_behind_takes_on_no_more(engine: Engine) -> None:
    """Catches: rows that wait for slots of one process while others have some."""
    provider = HeldProvider()
    await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    running = asyncio.create_task(activities(engine, accounts=accounts_of(provider, slots=1)).deliver(drive(cohort)))
    await provider.until(lambda: len(provider.waiting) == 1)
    others = None
    while others is None:
        await engine.accepted(1, lane=HIGH)
        others = await engine.cohorts.group(HIGH)
    await provider.let_go()
    assert (await running).waits_s == {}


async def test_an_end_that_is_told_is_on_the_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a notification that ends in its plan, and lives again after a crash of PostgreSQL, although whoever asked
    was told of its end."""
    sources: list[str] = []

    async def decide(connection: Any, ids: Any) -> None:
        query = "SELECT source FROM pg_settings WHERE name = 'synchronous_commit'"
        sources.append(await connection.fetchval(query))
        await decide_ends(connection, ids)

    monkeypatch.setattr(plans, "decide_ends", decide)
    [one] = await engine.accepted(1, user="u-none", channels=["email"])
    await engine.pool.execute("DELETE FROM identity")
    await engine.plan(await engine.grouped())
    assert (await engine.end(one))[2], "it has ended"
    assert sources
    assert "session" not in sources, "as the database is set"


async def test_whoever_looks_for_others_is_not_stopped_by_a_database_that_is_away() -> None:
    """Catches: an error between a claim and its call. What was claimed would not be sent, and its slots would be gone."""

    async def away() -> Lane | None:
        raise asyncpg.ConnectionDoesNotExistError

    await Paced(Pace(away), LOW).refresh()


async def test_a_stopping_worker_leaves_its_lane_to_others(engine: Engine) -> None:
    """A step that was not begun stays with the cohort, which no longer takes on."""
    await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    stopped = asyncio.Event()
    work = activities(engine, accounts=accounts_of(HeldProvider()), stopping=stopped.is_set)
    stopped.set()
    driven = await work.deliver(drive(cohort))
    assert list(driven.waits_s) == ["memory-email"]
    await engine.accepted(1, lane=HIGH)
    assert await engine.cohorts.group(HIGH) is not None


def test_few_of_the_medium_lane_are_driven_where_no_bulk_is() -> None:
    """Bulk keeps to its own workers, and the low lane to its."""
    assert driven_by(MEDIUM, shared=True, size=1) is HIGH
    assert driven_by(MEDIUM, shared=True, size=SHORT + 1) is MEDIUM
    assert driven_by(MEDIUM, shared=False, size=1) is MEDIUM
    assert driven_by(LOW, shared=True, size=1) is LOW
    assert all(0 < policy.admits_at_once <= policy.cohort_size for policy in POLICIES.values())


async def test_bulk_goes_in_small_steps_while_somebody_with_few_is_at_work() -> None:
    """Of its own lane or of a more urgent one; and as ever when nobody is."""
    now_s, seen = [0.0], list[Lane | None]([None])

    async def look() -> Lane | None:
        return seen[0]

    pace = Pace(look, now_s=lambda: now_s[0])
    low, medium = Paced(pace, LOW), Paced(pace, MEDIUM)
    assert (low.batch_limit(500), medium.batch_limit(500)) == (500, 500)
    pace.note(LOW)
    assert low.batch_limit(500) < 100
    assert medium.batch_limit(500) == 500
    now_s[0] = 10.0
    seen[0] = HIGH
    await low.refresh()
    assert low.batch_limit(500) == medium.batch_limit(500) < 100
    assert Unpaced().batch_limit(500) == 500
    now_s[0] = 20.0
    assert low.batch_limit(500) == 500


async def test_bulk_takes_one_step_at_a_time_and_none_waits_for_one_that_hangs() -> None:
    """Catches: plans, claims and flushes of many cohorts at once beside a lone message; and a step that waits for
    somebody's lock and stops all bulk of the process."""

    async def nobody() -> None:
        return None

    pace = Pace(nobody)
    pace.note(LOW)
    step, inside, most = Paced(pace, LOW), 0, 0

    async def one(leaves: asyncio.Event) -> None:
        nonlocal inside, most
        async with step.exclusive():
            inside += 1
            most = max(most, inside)
            await leaves.wait()
            inside -= 1

    quick, never = asyncio.Event(), asyncio.Event()
    quick.set()
    await asyncio.gather(*[one(quick) for _ in range(5)])
    assert most == 1
    hangs = asyncio.create_task(one(never))
    await asyncio.sleep(0)
    await one(quick)
    assert most == 2
    never.set()
    await hangs
    await one(quick)


async def test_those_with_few_see_whom_other_processes_serve(engine: Engine) -> None:
    """Catches: bulk in one process that does not know of the high lane in another."""
    assert await engine.cohorts.few_at_work() is None
    await at_work(engine, MEDIUM)
    assert await engine.cohorts.few_at_work() is MEDIUM
    await at_work(engine, HIGH)
    assert await engine.cohorts.few_at_work() is HIGH


async def test_whoever_goes_first_does_not_stand_in_line_but_the_line_moves() -> None:
    """Catches: a lone message that waits behind bulk's turns; and bulk that never gets a slot."""
    slots, order = Slots(1), list[str]()
    await slots.take(1)

    async def taker(name: str, *, first: bool) -> None:
        await slots.take(8, first=first)
        order.append(name)

    open_calls = {asyncio.create_task(taker("bulk", first=False))}
    await asyncio.sleep(0)
    open_calls |= {asyncio.create_task(taker(name, first=True)) for name in "ab"}
    await asyncio.sleep(0)
    while open_calls:
        slots.give()
        _, open_calls = await asyncio.wait(open_calls, return_when=asyncio.FIRST_COMPLETED)
    assert order == ["a", "bulk", "b"]
