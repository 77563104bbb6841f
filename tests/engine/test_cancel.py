"""Cancel against plan, claim and flush: it answers the truth, and nothing follows it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from activities.cohorts.planning import Planner
from domain.cancelling import CancelAnswer, CancelResult
from domain.channels import Channel
from domain.errors import NotFound
from domain.ids import uuid7
from domain.lanes import Lane
from infra.postgres.engine.cancelling import CancelRepository
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.plans import PlanRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import LOST, OK, PERMANENT, RETRY, TENANT, Engine

BOTH: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK]}
TAKE_BACK = "DELETE FROM work WHERE notification_id"


async def cancel(engine: Engine, notification: UUID, *, gate: Gate | None = None) -> CancelAnswer:
    pool = gated(engine.pool, gate) if gate else engine.pool
    return await CancelRepository(pool).cancel(TENANT, notification_id=notification)


async def plan_gated(engine: Engine, cohort: CohortRow, gate: Gate) -> int:
    entered = await engine.admission.enter(cohort, limit=10)
    assert entered is not None
    planner = Planner(PlanRepository(gated(engine.pool, gate)), engine.accounts)
    return (await planner.plan(cohort, unplanned=entered.unplanned, now=entered.now)).count


async def test_before_the_plan(engine: Engine) -> None:
    """Also what is due later: it never comes."""
    [one] = await engine.accepted()
    answer = await cancel(engine, one)
    assert (answer.result, answer.status) == (CancelResult.CANCELLED, "cancelled")
    assert await engine.end(one) == ("cancelled", "cancelled_by_request", True)
    assert await engine.cohorts.group(Lane.MEDIUM) is None
    assert await engine.work() == []


async def test_a_plan_that_waited_for_a_cancel_plans_nothing(engine: Engine) -> None:
    """Catches: no lock in the plan's write. Its snapshot still has the plan row; it puts up the steps of a notification
    that was cancelled, and they are sent."""
    [one] = await engine.accepted()
    cohort = await engine.grouped()
    gate = Gate(TAKE_BACK, after=True)
    cancelling = asyncio.create_task(cancel(engine, one, gate=gate))
    await gate.reached.wait()
    planning = asyncio.create_task(engine.plan(cohort))
    await done_or_blocked(engine.pool, planning)
    gate.open.set()
    assert (await cancelling).result is CancelResult.CANCELLED
    assert await planning == 0
    assert await engine.work() == []


async def test_a_cancel_that_waited_for_the_plan_stops_its_steps(engine: Engine) -> None:
    """Catches: a cancel that looks before it locks. It finds the plan row gone, and the steps are not there yet."""
    [one] = await engine.accepted(**BOTH)
    cohort = await engine.grouped()
    gate = Gate("WITH live", after=True)
    planning = asyncio.create_task(plan_gated(engine, cohort, gate))
    await gate.reached.wait()
    cancelling = asyncio.create_task(cancel(engine, one))
    await done_or_blocked(engine.pool, cancelling)
    gate.open.set()
    assert await planning == 1
    answer = await cancelling
    assert (answer.result, answer.cancelled) == (CancelResult.CANCELLED, ("email", "webhook"))
    assert await engine.work() == []
    assert await engine.end(one) == ("cancelled", "cancelled_by_request", True)


async def test_a_cancel_that_waited_for_a_claim_says_in_flight(engine: Engine) -> None:
    """Catches: a cancel that does not lock the steps. It would say `cancelled` of what is being sent in this moment."""
    cohort, [one] = await engine.planned(1, **BOTH)
    async with engine.pool.acquire() as claiming:
        transaction = claiming.transaction()
        await transaction.start()
        await claiming.execute("UPDATE work SET state = 1, attempt = 1, unknown_at = now() WHERE channel = 'email'")
        cancelling = asyncio.create_task(cancel(engine, one))
        await done_or_blocked(engine.pool, cancelling)
        await transaction.commit()
    answer = await cancelling
    assert answer.result is CancelResult.PARTLY_CANCELLED
    assert (answer.cancelled, answer.in_flight) == (("webhook",), ("email",))
    assert await engine.claim(cohort, Channel.WEBHOOK) == []


async def test_a_claim_finds_nothing_while_a_cancel_is_under_way(engine: Engine) -> None:
    """Catches: a claim that waits for the cancel's rows or takes them from an old snapshot."""
    cohort, [one] = await engine.planned(1)
    gate = Gate("UPDATE notification SET cancelled_at")
    cancelling = asyncio.create_task(cancel(engine, one, gate=gate))
    await gate.reached.wait()
    claiming = asyncio.create_task(engine.claim(cohort))
    await done_or_blocked(engine.pool, claiming)
    gate.open.set()
    assert (await cancelling).result is CancelResult.CANCELLED
    assert await claiming == []


async def test_no_fallback_follows_a_cancel(engine: Engine) -> None:
    """Catches: no lock in the flush. It asked before the cancel was there, and opens the next place after it."""
    cohort, [one] = await engine.planned(1, **BOTH, strategy="fallback")
    claims = await engine.claim(cohort)
    gate = Gate("UPDATE notification SET cancelled_at")
    cancelling = asyncio.create_task(cancel(engine, one, gate=gate))
    await gate.reached.wait()
    flushing = asyncio.create_task(engine.answer(claims, PERMANENT))
    await done_or_blocked(engine.pool, flushing)
    gate.open.set()
    assert (await cancelling).in_flight == ("email",)
    await flushing
    assert await engine.work() == []
    assert await engine.end(one) == ("failed", "content_refused", True)
    assert "fallback" not in await engine.events(one)


async def test_a_cancel_that_waited_for_a_flush_stops_the_place_it_opened(engine: Engine) -> None:
    """The other order: the next place of the chain is there once the flush has committed."""
    cohort, [one] = await engine.planned(1, **BOTH, strategy="fallback")
    claims = await engine.claim(cohort)
    gate = Gate("INSERT INTO work", after=True)
    flushing = asyncio.create_task(
        OutcomeRepository(gated(engine.pool, gate)).flush([engine.answered(c, PERMANENT) for c in claims], now_s=0.0)
    )
    await gate.reached.wait()
    cancelling = asyncio.create_task(cancel(engine, one))
    await done_or_blocked(engine.pool, cancelling)
    gate.open.set()
    await flushing
    assert (await cancelling).cancelled == ("webhook",)
    assert await engine.work() == []


@pytest.mark.parametrize(
    ("result", "end"),
    [
        (OK, ("sent", None, True)),
        (RETRY, ("cancelled", "cancelled_by_request", True)),
        (PERMANENT, ("failed", "content_refused", True)),
        (LOST, ("unknown", "answer_lost", True)),
    ],
)
async def test_what_was_in_flight_keeps_its_outcome(engine: Engine, result: Any, end: Any) -> None:
    """Caught: a hand-over whose answer was lost was called cancelled, although it may have arrived; and the timeline
    announced a retry that never came."""
    cohort, [one] = await engine.planned(1, options='{"on_unknown": "resend"}')
    claims = await engine.claim(cohort)
    assert (await cancel(engine, one)).result is CancelResult.ALREADY_HANDED_OFF
    await engine.answer(claims, result)
    assert await engine.end(one) == end
    assert await engine.work() == []
    details = await engine.pool.fetch("SELECT detail ->> 'retry_at' AS at, detail ->> 'then' AS next FROM event")
    assert all(d["at"] is None and d["next"] != "resend" for d in details)


async def test_what_came_back_unsent_after_a_cancel_is_not_sent(engine: Engine) -> None:
    """Caught: it was in flight when the cancel came, was given back without its first byte, and went out later."""
    cohort, [one] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    await cancel(engine, one)
    await engine.claims.give_back([Returned(claim.notification_id, claim.n, claim.attempt)])
    [again] = await engine.claim(cohort)
    await engine.flush(engine.decider().stopped(again))
    assert await engine.end(one) == ("cancelled", "cancelled_by_request", True)


@pytest.mark.parametrize("strategy", ["all", "fallback"])
@pytest.mark.parametrize("before", ["accepted", "planned", "half sent", "half in flight", "retrying", "half failed"])
async def test_asking_again_gives_the_same_answer(engine: Engine, before: str, strategy: str) -> None:
    """Caught: the second answer was `already_handed_off` where the first had said `partly_cancelled`, and each call wrote
    an event. The client that lost the first answer asks again."""
    if before == "accepted":
        [one] = await engine.accepted(**BOTH, strategy=strategy)
    else:
        cohort, [one] = await engine.planned(1, **BOTH, strategy=strategy)
    if before.startswith(("half", "retrying")):
        claims = await engine.claim(cohort)
        answers = {"half sent": OK, "retrying": RETRY, "half failed": PERMANENT}
        if before in answers:
            await engine.answer(claims, answers[before])
    first = await cancel(engine, one)
    assert await cancel(engine, one) == first
    cancelled = [e for e in await engine.events(one) if e == "cancelled"]
    assert len(cancelled) == (0 if (before, strategy) == ("half sent", "fallback") else 1)


async def test_what_has_ended_is_left_alone(engine: Engine) -> None:
    """Otherwise a cancel would turn what was sent into cancelled."""
    cohort, [one, two] = await engine.planned(2)
    [first, second] = await engine.claim(cohort)
    await engine.answer([first], OK)
    await engine.answer([second], PERMANENT)
    assert (await cancel(engine, one)).result is CancelResult.ALREADY_HANDED_OFF
    assert (await cancel(engine, two)).result is CancelResult.ALREADY_FINISHED
    assert await engine.end(one) == ("sent", None, True)
    assert (await engine.notification(one))["cancelled_at"] is None


async def test_another_tenants_notification_is_not_found(engine: Engine) -> None:
    """Otherwise an id that leaked would be enough to stop another company's messages."""
    [one] = await engine.accepted(tenant="other")
    for notification in (one, uuid7()):
        with pytest.raises(NotFound):
            await cancel(engine, notification)
    assert len(await engine.work()) == 1
