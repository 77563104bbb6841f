"""What is lost: not what the database's clock calls overdue, which somebody may just have set."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities.accounts import Account, Accounts
from activities.losses import FORGOTTEN_AFTER_S, Losses
from activities.slots import Slots
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import CLAIM_WINDOW, FLUSH_MARGIN
from infra.clock import ManualClock
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT
from tests.engine.driving import HeldProvider, activities, drive
from tests.engine.support import OK, RETRY, Engine
from tests.engine.test_sweep import DriverTwin, sweep_of

EMAIL, INAPP = Channel.EMAIL, Channel.INAPP
TAKES = CLAIM_WINDOW + timedelta(seconds=1) + FLUSH_MARGIN
"""Over an account of memory: its calls take a second at the most."""
MOMENT = timedelta(milliseconds=500)


async def set_forward(engine: Engine) -> None:
    """The database's clock, by an hour: it cannot be set here, so what was claimed before moves the other way."""
    await engine.pool.execute("UPDATE work SET unknown_at = unknown_at - interval '1 hour' WHERE state = 1")


async def ids(losses: Losses, cohort: UUID | None) -> list[UUID]:
    return [claim.notification_id for claim in await losses.of(cohort, limit=9)]


async def test_the_turn_of_another_account_calls_nothing_unknown(engine: Engine) -> None:
    """Caught: a cohort's e-mails were being sent when the clock was set forward, and the turn of its in-app messages in the
    same process found them overdue: `unknown`, in the high lane sent a second time."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[EMAIL, INAPP])
    provider = HeldProvider()
    accounts = Accounts([
        Account("memory-email", provider, Slots(2)),
        Account("memory-inapp", MemoryProvider(channel=INAPP), Slots(2)),
    ])  # fmt: skip
    clock = ManualClock()
    activity = activities(engine, accounts=accounts, clock=clock)
    sending = asyncio.create_task(ActivityEnvironment().run(activity.deliver, drive(cohort, "memory-email")))
    await provider.until(lambda: provider.inside == 1)
    await set_forward(engine)
    other = await ActivityEnvironment().run(activity.deliver, drive(cohort, "memory-inapp"))
    assert "unknown" not in await engine.events(one)
    assert other.waits_s["memory-email"] > 0, "it would be asked about without a pause"
    await provider.let_go()
    await sending
    assert await engine.deliveries(one) == {"email": ("sent", None), "inapp": ("sent", None)}
    assert "unknown" not in await engine.events(one)


async def test_nor_does_a_sweep_that_has_only_begun_to_look(engine: Engine) -> None:
    """Caught: a worker that started after the step knew nothing of it, and a step between its look at the clock and its
    look at the rows was one too."""
    cohort, [one] = await engine.planned(1)
    claims = await engine.claim(cohort)
    await set_forward(engine)
    clock = ManualClock()
    sweep = sweep_of(engine, DriverTwin(), clock=clock)
    assert (await sweep.run_once()).unknown == 0
    clock.advance(TAKES - MOMENT)
    assert (await sweep.run_once()).unknown == 0
    await engine.answer(claims)
    assert await engine.end(one) == ("sent", None, True)


@pytest.mark.parametrize("looks", ["the cohort", "the sweep"])
async def test_what_nobody_brings_home_is_lost_all_the_same(engine: Engine, looks: str) -> None:
    """Once it was seen for as long as a hand-over over its account takes."""
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    await set_forward(engine)
    clock = ManualClock()
    losses, of = Losses(engine.claims, engine.accounts, clock=clock), cohort.id if looks == "the cohort" else None
    assert await ids(losses, of) == []
    clock.advance(TAKES - MOMENT)
    assert await ids(losses, of) == []
    clock.advance(MOMENT)
    assert await ids(losses, of) == [one]


async def test_a_cohort_begins_to_look_before_they_are_overdue(engine: Engine) -> None:
    """Otherwise what a killed worker had in hand would be waited for twice as long."""
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    clock = ManualClock()
    losses = Losses(engine.claims, engine.accounts, clock=clock)
    assert await ids(losses, cohort.id) == []
    clock.advance(TAKES)
    assert await ids(losses, cohort.id) == [], "not by the database's clock"
    await engine.lose(one)
    assert await ids(losses, cohort.id) == [one]


async def test_another_attempt_is_waited_for_anew(engine: Engine) -> None:
    """Catches: a look that goes by the step. The retry would be lost the moment that it is claimed."""
    cohort, [one] = await engine.planned(1)
    clock = ManualClock()
    losses = Losses(engine.claims, engine.accounts, clock=clock)
    claims = await engine.claim(cohort)
    assert await ids(losses, cohort.id) == []
    await engine.answer(claims, RETRY)
    await engine.make_due()
    clock.advance(TAKES)
    claims = await engine.claim(cohort)
    await set_forward(engine)
    assert await ids(losses, cohort.id) == []
    await engine.answer(claims, OK)
    assert await engine.end(one) == ("sent", None, True)


async def test_what_was_in_hand_over_an_account_that_is_gone_is_waited_for_longest(engine: Engine) -> None:
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    await set_forward(engine)
    clock = ManualClock()
    losses = Losses(engine.claims, Accounts([]), clock=clock)
    await ids(losses, cohort.id)
    clock.advance(HAND_OVER_LIMIT - MOMENT)
    assert await ids(losses, cohort.id) == []
    clock.advance(MOMENT)
    assert await ids(losses, cohort.id) == [one]


async def test_it_remembers_no_cohort_for_ever(engine: Engine) -> None:
    """Catches: a process that grows with each cohort that another one took over."""
    first, _ = await engine.planned(1)
    await engine.claim(first)
    clock = ManualClock()
    losses = Losses(engine.claims, engine.accounts, clock=clock)
    await ids(losses, first.id)
    clock.advance(timedelta(seconds=FORGOTTEN_AFTER_S + 1))
    second, _ = await engine.planned(1)
    await ids(losses, second.id)
    assert losses._seen == {}
