"""The activity `deliver` on a real database, without Temporal: plan, hand over, recover, leave."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.delivery import HAND_ON_S
from domain.channels import Channel
from domain.lanes import Lane
from infra.clock import ManualClock
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT
from tests.engine.driving import HeldProvider, accounts_of, activities, drive, handed_over
from tests.engine.gates import Cut, Gate, gated
from tests.engine.support import EVERYWHERE, OK, PERMANENT, RETRY, Engine
from workflows.delivery import Driven

EMAIL, INAPP = Channel.EMAIL, Channel.INAPP


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.recording.patience.RETRY_FIRST_S", 0.01)


async def test_one_call_plans_hands_over_and_ends_the_cohort(engine: Engine) -> None:
    """Each trip through Temporal costs milliseconds: a cohort without trouble needs one."""
    ids = await engine.accepted(3, user="u-1", channels=EVERYWHERE)
    cohort = await engine.grouped()
    poked: list[Lane] = []
    driven = await ActivityEnvironment().run(activities(engine, poke=poked.append).deliver, drive(cohort))
    assert (driven.handed_over, driven.waits_s, set(poked)) == (9, {}, {Lane.MEDIUM})
    assert {(await engine.end(i)) for i in ids} == {("sent", None, True)}
    assert await engine.pool.fetchval("SELECT count(*) FROM cohort") == 0


async def test_a_chain_is_followed_in_the_same_call(engine: Engine) -> None:
    """Catches: one round only. Each place of the chain would cost a trip through the workflow."""
    [one] = await engine.accepted(1, user="u-1", channels=EVERYWHERE, strategy="fallback")
    for channel in EVERYWHERE[:2]:
        engine.providers[channel].script(PERMANENT)
    driven = await ActivityEnvironment().run(activities(engine).deliver, drive(await engine.grouped()))
    assert driven.waits_s == {}
    assert await engine.end(one) == ("sent", None, True)
    assert [len(engine.providers[c].sent) for c in EVERYWHERE] == [1, 1, 1]


async def test_it_says_what_waits_and_for_how_long(engine: Engine) -> None:
    """The workflow sleeps by it."""
    [one] = await engine.accepted(1, user="u-1", channels=EVERYWHERE)
    engine.providers[EMAIL].script(RETRY)
    driven = await ActivityEnvironment().run(activities(engine).deliver, drive(await engine.grouped()))
    assert list(driven.waits_s) == ["memory-email"]
    assert 0 < driven.waits_s["memory-email"] <= 2.4
    assert (await engine.end(one))[2] is False


async def test_a_call_for_one_channel_leaves_the_others_alone(engine: Engine) -> None:
    """Otherwise the call for the fast channel would wait for the slow one's provider."""
    cohort, _ = await engine.planned(2, user="u-1", channels=[EMAIL, INAPP])
    driven = await ActivityEnvironment().run(activities(engine).deliver, drive(cohort, "memory-inapp"))
    assert driven.waits_s == {"memory-email": 0.0}
    assert (len(engine.providers[EMAIL].sent), len(engine.providers[INAPP].sent)) == (0, 2)


async def test_a_fenced_call_does_nothing(engine: Engine) -> None:
    """A workflow that was given up and comes back finds nothing, and ends."""
    cohort, _ = await engine.planned(2)
    await engine.redriven(cohort)
    driven = await ActivityEnvironment().run(activities(engine).deliver, drive(cohort))
    assert (driven.handed_over, driven.waits_s) == (0, {})
    assert engine.providers[EMAIL].sent == []


async def test_a_stopping_worker_makes_no_new_claim(engine: Engine) -> None:
    """A deploy makes no unknowns: what was not claimed waits for the next worker."""
    await engine.accepted(2)
    cohort = await engine.grouped()
    driven = await ActivityEnvironment().run(activities(engine, stopping=lambda: True).deliver, drive(cohort))
    assert driven.waits_s == {"memory-email": HAND_ON_S}
    assert [(r["state"], r["attempt"]) for r in await engine.work()] == [(0, 0)] * 2


async def test_a_stopping_worker_does_not_call_itself_again(engine: Engine) -> None:
    """Caught: a local activity that says `due now` is called again at once in the process that is stopping, which claims
    nothing and says so again; it had to be killed, and what it had in hand was unknown."""
    await engine.accepted(2)
    cohort = await engine.grouped()
    driven = await ActivityEnvironment().run(activities(engine, stopping=lambda: True).deliver, drive(cohort))
    assert driven.waits_s
    assert min(driven.waits_s.values()) > 0


async def test_a_worker_that_is_told_to_stop_brings_home_what_is_in_flight(engine: Engine) -> None:
    """Catches: stopping by cancelling calls. What is in flight would be unknown."""
    await engine.accepted(6)
    cohort = await engine.grouped()
    provider, stop = HeldProvider(), asyncio.Event()
    activity = activities(engine, accounts=accounts_of(provider, slots=2), stopping=stop.is_set)
    running = asyncio.create_task(ActivityEnvironment().run(activity.deliver, drive(cohort)))
    await provider.until(lambda: provider.inside == 2)
    stop.set()
    await provider.let_go()
    driven = await running
    assert (driven.handed_over, driven.waits_s) == (2, {"memory-email": HAND_ON_S})
    assert [r["state"] for r in await engine.work()] == [0] * 4


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_in_a_call_it_leaves_nothing_in_limbo(engine: Engine, times: int) -> None:
    """Caught for the second cancellation: what was being sent was cut off by it."""
    await engine.accepted(4)
    cohort = await engine.grouped()
    provider = HeldProvider()
    tasks: list[Any] = []
    activity = activities(engine, accounts=accounts_of(provider, slots=2))

    async def deliver() -> Driven:
        tasks.append(asyncio.current_task())
        return await activity.deliver(drive(cohort))

    running = asyncio.create_task(ActivityEnvironment().run(deliver))
    await provider.until(lambda: provider.inside == 2)
    for _ in range(times):
        tasks[0].cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    await provider.let_go()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(provider.sent) == 2
    assert [r["state"] for r in await engine.work()] == [0, 0]


async def test_cancelled_in_a_claim_it_sends_what_it_got(engine: Engine) -> None:
    """Catches: a cancellation between a claim and its send. The rows would be in nobody's hands until they are unknown."""
    await engine.accepted(2)
    cohort = await engine.grouped()
    environment, gate = ActivityEnvironment(), Gate("SET state = 1", after=True)
    running = asyncio.create_task(environment.run(activities(engine, pool=gated(engine.pool, gate)).deliver, drive(cohort)))
    await gate.reached.wait()
    environment.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(engine.providers[EMAIL].sent) == 2
    assert await engine.work() == []


@pytest.mark.parametrize(
    ("options", "provider", "then", "sends"),
    [
        (None, "forgets", ("unknown", "answer_lost", True), 0),
        ('{"on_unknown": "hold"}', "forgets", ("unknown", "answer_lost", True), 0),
        ('{"on_unknown": "resend"}', "forgets", ("sent", None, True), 1),
        (None, "knows it again", ("sent", None, True), 1),
    ],
)
async def test_what_a_killed_worker_had_in_hand_is_recovered(
    engine: Engine, options: str | None, provider: str, then: Any, sends: int
) -> None:
    """Catches: rows that nobody looks after. It is called unknown, and sent again only where that cannot show twice or is
    asked for."""
    cohort, [one] = await engine.planned(1, options=options)
    await engine.claim(cohort)  # and never a word again
    await engine.lose(one)
    other = Engine.over(engine.pool, idempotent=provider != "forgets")
    clock = ManualClock()
    activity = activities(other, clock=clock)
    await ActivityEnvironment().run(activity.deliver, drive(cohort))
    clock.advance(HAND_OVER_LIMIT)
    await ActivityEnvironment().run(activity.deliver, drive(cohort))
    await engine.make_due()
    await ActivityEnvironment().run(activity.deliver, drive(cohort))
    assert await engine.end(one) == then
    assert len(other.providers[EMAIL].sent) == sends
    assert "unknown" in await engine.events(one)


async def test_what_another_attempt_still_has_in_hand_is_waited_for(engine: Engine) -> None:
    """Catches: a recovery that does not look at unknown_at. The other attempt may be alive and just sending."""
    cohort, _ = await engine.planned(1)
    await engine.claim(cohort)
    driven = await ActivityEnvironment().run(activities(engine).deliver, drive(cohort))
    assert engine.providers[EMAIL].sent == []
    assert 10 < driven.waits_s["memory-email"] < 40


@pytest.mark.parametrize("text", ["SET state = 0, due_at", "COMMIT", "n.strategy, n.status"])
async def test_a_connection_that_is_cut_in_a_flush_loses_no_outcome(engine: Engine, text: str) -> None:
    """Catches: an outcome that is dropped with the connection; and after a lost COMMIT one that is written twice."""
    [one, two] = await engine.accepted(2)
    cohort = await engine.grouped()
    await engine.plan(cohort)
    engine.providers[EMAIL].script(RETRY, OK)
    cut = Cut(text, times=3)
    await ActivityEnvironment().run(activities(engine, pool=gated(engine.pool, cut)).deliver, drive(cohort))
    assert cut.times == 0
    assert len(engine.providers[EMAIL].sent) == 2
    assert sorted([(await engine.end(i))[2] for i in (one, two)]) == [False, True]
    events = await engine.pool.fetch("SELECT type FROM event WHERE type = 'attempt'")
    assert len(events) == 2


async def test_a_connection_that_is_cut_while_giving_back_leaves_nothing_in_limbo(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught: what was to go back unsent was forgotten with the connection, and called unknown half a minute later."""
    monkeypatch.setattr("activities.handing_over.account_loop.CLAIM_WINDOW", timedelta(0))
    cohort, _ = await engine.planned(3)
    cut = Cut("faults = w.faults", times=2)
    over = Engine(gated(engine.pool, cut), engine.providers, engine.accounts)
    await handed_over(over, cohort, engine.accounts)
    assert cut.times == 0
    assert [r["state"] for r in await engine.work()] == [0] * 3
