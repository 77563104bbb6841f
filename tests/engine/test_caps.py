"""Frequency caps on the database: two plans at once never share the last place, and what was not sent gives its back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from activities.cohorts.planning import Planner
from domain.channels import Channel
from domain.cohorts import CohortEpoch
from domain.lanes import Lane
from domain.preferences import Cap
from infra.postgres.engine.admission import Entered
from infra.postgres.engine.caps import KEPT, CapRepository
from infra.postgres.engine.edits import Edit, EditRepository
from infra.postgres.engine.plans import PlanRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import OK, PERMANENT, Engine, soon
from tests.engine.sweeping import DriverTwin, sweep_of

DAY = timedelta(days=1)
ONE_EMAIL = {"email": Cap(1, DAY)}
ONE_ORDER = {"orders": Cap(1, DAY)}
CAPPED = ("suppressed", "frequency_cap", True)


async def entered(engine: Engine) -> tuple[CohortEpoch, Entered]:
    """One more notification for u-1, loaded by a cohort of its own and not planned yet."""
    await engine.accepted(1, user="u-1", channels=[Channel.EMAIL])
    cohort = await engine.grouped()
    found = await engine.admission.enter(cohort, limit=10)
    assert found is not None
    return cohort, found


async def test_of_two_that_are_planned_at_once_one_gets_the_last_place(engine: Engine) -> None:
    """Catches: counting without a lock on the person. Both plans find the cap's only place free."""
    await engine.prefers(channel_caps=ONE_EMAIL)
    (one, first), (two, second) = await entered(engine), await entered(engine)
    gate = Gate("FROM cap_use", after=True)
    slow, quick = Planner(PlanRepository(gated(engine.pool, gate)), engine.accounts), Planner(engine.plans, engine.accounts)
    before = asyncio.create_task(slow.plan(one, unplanned=first.unplanned, now=first.now))
    await gate.reached.wait()
    after = asyncio.create_task(quick.plan(two, unplanned=second.unplanned, now=second.now))
    await done_or_blocked(engine.pool, after)
    gate.open.set()
    assert [(await before).count, (await after).count] == [1, 1]
    assert [r["notification_id"] for r in await engine.work()] == [first.unplanned[0].notification_id]
    assert await engine.end(second.unplanned[0].notification_id) == CAPPED


async def test_of_one_cohort_the_first_accepted_gets_the_place(engine: Engine) -> None:
    await engine.prefers(category_caps={"orders": Cap(2, DAY)})
    _, ids = await engine.planned(4, user="u-1", channels=[Channel.EMAIL, Channel.INAPP])
    assert {r["notification_id"] for r in await engine.work()} == set(ids[:2])
    assert [await engine.end(i) for i in ids[2:]] == [CAPPED, CAPPED]
    assert await engine.deliveries(ids[3]) == dict.fromkeys(["email", "inapp"], CAPPED[:2])


async def test_what_ends_without_being_sent_gives_its_place_back(engine: Engine) -> None:
    """Failed, cancelled, or a place of a chain that was never opened."""
    await engine.prefers(channel_caps=ONE_EMAIL)
    cohort, _ = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.answer(await engine.claim(cohort), PERMANENT)
    _, [cancelled] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.control.cancel("acme", notification_id=cancelled)
    cohort, [chain] = await engine.planned(1, user="u-1", channels=[Channel.INAPP, Channel.EMAIL], strategy="fallback")
    _, [meanwhile] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.answer(await engine.claim(cohort, Channel.INAPP))
    _, [later] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    assert await engine.end(chain) == ("sent", None, True)
    assert await engine.end(meanwhile) == CAPPED
    assert [r["notification_id"] for r in await engine.work()] == [later]


async def test_what_is_edited_gives_its_place_back(engine: Engine) -> None:
    """Caught: put off by an edit, it held a place today until it was planned again."""
    await engine.prefers(channel_caps=ONE_EMAIL)
    _, [later] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    edit = Edit(("send_at",), 1, Lane.MEDIUM, "", None, None, '{"text": "x"}', None, None, soon(5 * 86_400), None, DAY)
    assert await EditRepository(engine.pool).write("acme", notification_id=later, edit=edit) is not None
    _, [today] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    assert [r["notification_id"] for r in await engine.work() if r["n"] > 0] == [today]
    assert await engine.end(today) != CAPPED


async def test_what_was_sent_counts_until_the_window_has_passed(engine: Engine) -> None:
    await engine.prefers(category_caps=ONE_ORDER)
    cohort, _ = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.answer(await engine.claim(cohort), OK)
    _, [second] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    assert await engine.end(second) == CAPPED
    await engine.pool.execute("UPDATE cap_use SET at = now() - interval '25 hours'")
    _, [third] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    assert [r["notification_id"] for r in await engine.work()] == [third]


async def test_caps_are_each_persons_own(engine: Engine) -> None:
    for user in ("u-1", "u-2"):
        await engine.prefers(user, channel_caps=ONE_EMAIL)
    await engine.accepted(1, user="u-1", channels=[Channel.EMAIL])
    await engine.accepted(1, user="u-2", channels=[Channel.EMAIL])
    await engine.plan(await engine.grouped())
    assert len(await engine.work()) == 2


async def test_what_was_cancelled_before_its_plan_takes_no_place(engine: Engine) -> None:
    """Catches: places given to what is no longer to be planned. The last one would go to nobody."""
    await engine.prefers(channel_caps=ONE_EMAIL)
    [gone, here] = await engine.accepted(2, user="u-1", channels=[Channel.EMAIL])
    cohort = await engine.grouped()
    found = await engine.admission.enter(cohort, limit=10)
    assert found is not None
    await engine.control.cancel("acme", notification_id=gone)
    planner = Planner(engine.plans, engine.accounts)
    assert (await planner.plan(cohort, unplanned=found.unplanned, now=found.now)).count == 1
    assert [r["notification_id"] for r in await engine.work()] == [here]


async def test_a_plan_that_is_made_anew_keeps_its_place(engine: Engine) -> None:
    """After an edit: it does not stand in its own way."""
    await engine.prefers(channel_caps=ONE_EMAIL)
    _, [one] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.pool.execute("UPDATE work SET n = 0, cohort = NULL, channel = NULL")
    await engine.plan(await engine.grouped())
    assert [(r["notification_id"], r["n"]) for r in await engine.work()] == [(one, 1)]
    assert await engine.pool.fetchval("SELECT count(*) FROM cap_use") == 1


async def test_places_that_no_window_reaches_are_forgotten(engine: Engine) -> None:
    """And no others; they are ids and times of people."""
    await engine.prefers(channel_caps={"email": Cap(9, DAY)})
    _, ids = await engine.planned(3, user="u-1", channels=[Channel.EMAIL])
    await engine.pool.execute(
        "UPDATE cap_use SET at = now() - $2::interval WHERE notification_id = ANY ($1)", ids[:2], KEPT + DAY
    )
    assert await CapRepository(engine.pool).forget(limit=1) == 1
    await sweep_of(engine, DriverTwin()).run_once()
    assert await engine.pool.fetchval("SELECT notification_id FROM cap_use") == ids[2]
