"""Receivers that hang: what waits for them stops nobody else."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from activities.accounts.account import Account
from activities.cohorts import drive as cohort_drive
from domain.lanes import POLICIES
from tests.engine.driving import activities, drive
from tests.engine.receivers import MANY, MEDIUM, Hooks, cohort_of, drained, hooks
from tests.engine.support import Engine


async def test_receivers_that_hang_leave_slots_for_others(engine: Engine) -> None:
    """Caught: two tenants with an endpoint each that hangs had all slots, and everybody's webhooks waited ten seconds a
    row; what finds no place is put off, and keeps no slot."""
    provider = Hooks()
    work = activities(engine, accounts=hooks(provider, slots=64))
    cohorts = [await cohort_of(engine, tenant, MANY, "hangs") for tenant in ("a", "b")]
    hanging = [asyncio.create_task(work.deliver(drive(cohort))) for cohort in cohorts]
    await provider.until(lambda: provider.inside >= 40)
    other = await cohort_of(engine, "c", 3, "quick")
    assert (await work.deliver(drive(other))).handed_over == 3
    assert 40 <= provider.inside < 60, "they still hang"
    await provider.let_go()
    await asyncio.gather(*hanging)
    assert {m.tenant for m in provider.sent} == {"a", "b", "c"}


async def test_what_is_claimed_for_a_receiver_that_nobody_knows_is_called(engine: Engine) -> None:
    """Caught: of each first claim for one half went back, at two writes a message."""
    provider = Hooks()
    work = activities(engine, accounts=hooks(provider, slots=64))
    running = asyncio.create_task(work.deliver(drive(await cohort_of(engine, "a", 60, "hangs"))))
    await provider.until(lambda: provider.inside >= 32)
    claimed = await engine.pool.fetchval("SELECT count(*) FROM work WHERE attempt > 0")
    assert claimed == provider.inside
    await provider.let_go()
    await running


async def test_what_went_back_is_called_before_the_others_have_answered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught: it waited for all calls that had begun, as long as those hang, whatever became free meanwhile."""
    monkeypatch.setattr(Account, "unproven_at_once", lambda *_, taken: taken)
    provider = Hooks()
    accounts = hooks(provider, slots=64)
    work = activities(engine, accounts=accounts)
    running = asyncio.create_task(work.deliver(drive(await cohort_of(engine, "a", 40, "hangs"))))
    await provider.until(lambda: provider.inside >= 32)
    await provider.let_go(20)
    async with asyncio.timeout(5):
        await provider.until(lambda: len(provider.sent) == 20 and provider.inside == 20)
    await provider.let_go()
    await running


async def test_all_that_waited_is_sent_when_the_receiver_is_back(engine: Engine) -> None:
    """Catches: what was put off, or given back, and is nobody's."""
    provider = Hooks()
    work = activities(engine, accounts=hooks(provider))
    cohort = await cohort_of(engine, "a", MANY, "hangs")
    running = asyncio.create_task(work.deliver(drive(cohort)))
    await provider.until(lambda: provider.inside >= 8)
    await provider.let_go()
    await running
    await drained(engine, work)
    assert Counter(Counter(m.delivery_id for m in provider.sent).values()) == {1: MANY}


async def test_a_cohort_that_waits_for_answers_takes_no_place_of_its_lane(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught: eight cohorts whose receivers hang filled the medium lane, and nobody's messages were grouped, whatever
    their channel."""
    monkeypatch.setattr(cohort_drive, "WAITS_AFTER", timedelta(milliseconds=10))
    provider = Hooks()
    only_one = replace(POLICIES[MEDIUM], cohorts_open=1)
    cohort = await cohort_of(engine, "a", MANY, "hangs")
    running = asyncio.create_task(activities(engine, accounts=hooks(provider)).deliver(drive(cohort)))
    await provider.until(lambda: provider.inside >= 8)
    await engine.accepted(1, tenant="c")
    others = None
    while others is None:
        others = await engine.cohorts.group(MEDIUM, policy=only_one)
        await asyncio.sleep(0)
    await provider.let_go()
    await running
