"""A cohort that takes on looks for it by times, and hands over what it knows to be due."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from domain.channels import Channel
from domain.lanes import Lane
from infra.postgres.engine.admission import AdmissionRepository, Admitted
from tests.engine.driving import HeldProvider, accounts_of, activities, drive
from tests.engine.support import ADDRESSES, Engine

HIGH = Lane.HIGH


async def test_what_comes_between_two_looks_is_one_group(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a dozen statements for each message where many come."""
    monkeypatch.setattr("activities.cohorts.drive.LOOK_EVERY", timedelta(seconds=0.4))
    sizes, real = list[int](), AdmissionRepository.admit_due

    async def admit_due(*arguments: Any, **options: Any) -> Admitted:
        taken = await real(*arguments, **options)
        sizes.append(taken.size)
        return taken

    monkeypatch.setattr(AdmissionRepository, "admit_due", admit_due)
    provider = HeldProvider()
    await provider.let_go()
    await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    running = asyncio.create_task(activities(engine, accounts=accounts_of(provider)).deliver(drive(cohort)))
    while not sizes:  # noqa: ASYNC110 - a method has no events
        await asyncio.sleep(0.001)
    for _ in range(4):
        await engine.accepted(1, lane=HIGH)
        await asyncio.sleep(0.01)
    assert (await running).handed_over == 5
    taken = [size for size in sizes if size]
    assert sum(taken) == 4
    assert len(taken) < 4


async def test_what_is_taken_on_with_a_plan_is_handed_over_with_its_group(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: only accounts of what was planned just now. What is tried again waited for the next look at all of them."""
    monkeypatch.setattr("activities.cohorts.drive.LOOK_ALL_EVERY_S", float("inf"))
    email, hook = HeldProvider(), HeldProvider(channel=Channel.WEBHOOK)
    await engine.accepted(1, lane=HIGH, to=(Channel.WEBHOOK, ADDRESSES[Channel.WEBHOOK]))
    await engine.plan(await engine.grouped(HIGH))
    await engine.pool.execute("UPDATE work SET cohort = NULL, due_at = now() + interval '1 hour'")
    await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    running = asyncio.create_task(activities(engine, accounts=accounts_of(email, hook)).deliver(drive(cohort)))
    async with asyncio.timeout(15):
        await email.until(lambda: email.inside == 1)
        await engine.pool.execute("UPDATE work SET due_at = now() WHERE cohort IS NULL")
        await hook.until(lambda: hook.inside == 1)
    await email.let_go()
    await hook.let_go()
    assert (await running).handed_over == 2


async def test_what_others_made_due_in_a_cohort_is_handed_over_with_what_it_takes_on(engine: Engine) -> None:
    """Catches: groups of what was taken on alone. A step that somebody hurries, or whose receipt says that it has failed,
    would wait until nothing comes any more."""
    email, hook = HeldProvider(), HeldProvider(channel=Channel.WEBHOOK)
    await engine.accepted(1, lane=HIGH, to=(Channel.WEBHOOK, ADDRESSES[Channel.WEBHOOK]))
    await engine.accepted(1, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    await engine.plan(cohort)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '1 hour' WHERE channel = 'webhook'")
    running = asyncio.create_task(activities(engine, accounts=accounts_of(email, hook)).deliver(drive(cohort)))
    async with asyncio.timeout(10):
        await email.until(lambda: email.inside == 1)
        await email.let_go()
        await engine.pool.execute("UPDATE work SET due_at = now() WHERE channel = 'webhook'")
        while not hook.inside:
            await engine.accepted(1, lane=HIGH)
            await asyncio.sleep(0.02)
    assert not running.done()
    await hook.let_go()
    assert (await running).waits_s == {}
