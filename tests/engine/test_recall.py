"""Recall against plan, hand-over, flush and readers: it answers the truth, and what was taken back does not come back."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from api.recalls import RecallOutcome, RecallService
from channels.base import NotSent
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.errors import NotFound
from domain.ids import uuid7
from domain.recall import RecallResult
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.recalling import RecallRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import LOST, OK, PERMANENT, RETRY, TENANT, Engine

INAPP: dict[str, Any] = {"user": "u-1", "channels": [Channel.INAPP]}
BOTH: dict[str, Any] = {"user": "u-1", "channels": [Channel.INAPP, Channel.EMAIL]}


@pytest.fixture
def provider() -> MemoryProvider:
    return MemoryProvider(channel=Channel.INAPP, recall=True)


async def recall(
    engine: Engine, provider: MemoryProvider, one: UUID, *, gate: Gate | None = None
) -> RecallOutcome:  # fmt: skip
    pool = gated(engine.pool, gate) if gate else engine.pool
    return await RecallService(RecallRepository(pool), {Channel.INAPP: provider}).recall(TENANT, notification_id=one)


def told(done: RecallOutcome) -> dict[str, str]:
    return {str(step.channel): str(result) for step, result in done.channels}


async def test_before_the_plan_it_is_a_cancellation(engine: Engine, provider: MemoryProvider) -> None:
    [one] = await engine.accepted()
    done = await recall(engine, provider, one)
    assert (done.result, done.status, list(done.channels)) == (RecallResult.CANCELLED, "cancelled", [])
    assert await recall(engine, provider, one) == done
    assert await engine.end(one) == ("cancelled", "cancelled_by_request", True)
    assert await engine.work() == []


async def test_what_was_delivered_is_taken_back(engine: Engine, provider: MemoryProvider) -> None:
    cohort, [one] = await engine.planned(1, **INAPP)
    await engine.answer(await engine.claim(cohort, Channel.INAPP), OK)
    done = await recall(engine, provider, one)
    assert (done.result, done.status, told(done)) == (RecallResult.RECALLED, "cancelled", {"inapp": "recalled"})
    assert (one, 1) in provider.recalled
    assert await engine.end(one) == ("cancelled", "recalled_by_request", True)
    again = await recall(engine, provider, one)
    assert (again.result, again.status, told(again)) == (done.result, done.status, told(done))
    assert (await engine.events(one)).count("recalled") == 1


async def test_each_channel_says_what_it_can(engine: Engine, provider: MemoryProvider) -> None:
    """E-mail that was sent stays sent, and the notification with it."""
    cohort, [one] = await engine.planned(1, **BOTH)
    await engine.answer(await engine.claim(cohort, Channel.INAPP), OK)
    await engine.answer(await engine.claim(cohort, Channel.EMAIL), OK)
    done = await recall(engine, provider, one)
    assert (done.result, told(done)) == (
        RecallResult.PARTLY_RECALLED, {"inapp": "recalled", "email": "cannot_recall"},
    )  # fmt: skip
    assert await engine.end(one) == ("sent", None, True)
    assert await engine.deliveries(one) == {"inapp": ("cancelled", "recalled_by_request"), "email": ("sent", None)}


async def test_what_waits_is_stopped_and_what_arrived_taken_back(engine: Engine, provider: MemoryProvider) -> None:
    cohort, [one] = await engine.planned(1, **BOTH)
    await engine.answer(await engine.claim(cohort, Channel.INAPP), OK)
    done = await recall(engine, provider, one)
    assert (done.result, told(done)) == (RecallResult.RECALLED, {"inapp": "recalled", "email": "cancelled"})
    assert await engine.work() == []
    assert (await engine.end(one))[0] == "cancelled"


async def test_what_was_read_is_left(engine: Engine, provider: MemoryProvider) -> None:
    cohort, [one] = await engine.planned(1, **INAPP)
    await engine.answer(await engine.claim(cohort, Channel.INAPP), OK)
    provider.read.add((one, 1))
    done = await recall(engine, provider, one)
    assert (done.result, told(done)) == (RecallResult.ALREADY_READ, {"inapp": "already_read"})
    assert (await engine.end(one))[0] == "sent"


async def test_a_read_that_comes_before_the_record_is_kept(engine: Engine, provider: MemoryProvider) -> None:
    """Catches: a record that overwrites the evidence of the reader."""
    cohort, [one] = await engine.planned(1, **INAPP)
    await engine.answer(await engine.claim(cohort, Channel.INAPP), OK)
    gate = Gate("INSERT INTO delivery AS d")
    recalling = asyncio.create_task(recall(engine, provider, one, gate=gate))
    await gate.reached.wait()
    reading = asyncio.create_task(
        engine.pool.execute("UPDATE delivery SET status = 'read' WHERE notification_id = $1", one)
    )
    await reading
    gate.open.set()
    assert told(await recalling) == {"inapp": "already_read"}
    assert await engine.deliveries(one) == {"inapp": ("read", None)}


@pytest.mark.parametrize("result", [OK, RETRY, PERMANENT, LOST])
async def test_what_was_in_flight_stays_taken_back(engine: Engine, provider: MemoryProvider, result: Any) -> None:
    """Catches: the flush of the hand-over that was under way says `sent` of a message that nobody will see."""
    cohort, [one] = await engine.planned(1, **INAPP)
    claims = await engine.claim(cohort, Channel.INAPP)
    done = await recall(engine, provider, one)
    assert (done.result, done.status, told(done)) == (RecallResult.RECALLED, "processing", {"inapp": "recalled"})
    await engine.answer(claims, result)
    assert await engine.end(one) == ("cancelled", "recalled_by_request", True)
    assert await engine.work() == []


async def test_a_flush_between_stop_and_record_changes_nothing(engine: Engine, provider: MemoryProvider) -> None:
    """The recall finds it in flight, the flush ends it, and then the recall writes down what it took back."""
    cohort, [one] = await engine.planned(1, **INAPP)
    claims = await engine.claim(cohort, Channel.INAPP)
    gate = Gate("coalesce(d.n, w.n)", after=True)
    recalling = asyncio.create_task(recall(engine, provider, one, gate=gate))
    await gate.reached.wait()
    flushing = asyncio.create_task(engine.answer(claims, OK))
    await done_or_blocked(engine.pool, flushing)
    gate.open.set()
    await flushing
    assert (await recalling).result is RecallResult.RECALLED
    assert await engine.end(one) == ("cancelled", "recalled_by_request", True)


async def test_a_recall_that_waited_for_a_flush_takes_back_what_it_wrote(engine: Engine, provider: MemoryProvider) -> None:
    """Catches: a recall that looks before it locks: it would ask nobody, and say `cancelled`."""
    cohort, [one] = await engine.planned(1, **INAPP)
    claims = await engine.claim(cohort, Channel.INAPP)
    gate = Gate("INSERT INTO delivery", after=True)
    outcomes = OutcomeRepository(gated(engine.pool, gate))
    flushing = asyncio.create_task(outcomes.flush([engine.answered(c, OK) for c in claims], now_s=0.0))
    await gate.reached.wait()
    recalling = asyncio.create_task(recall(engine, provider, one))
    await done_or_blocked(engine.pool, recalling)
    gate.open.set()
    await flushing
    assert told(await recalling) == {"inapp": "recalled"}
    assert await engine.end(one) == ("cancelled", "recalled_by_request", True)


async def test_no_fallback_and_no_retry_follow(engine: Engine, provider: MemoryProvider) -> None:
    cohort, [one] = await engine.planned(1, **BOTH, strategy="fallback")
    claims = await engine.claim(cohort, Channel.INAPP)
    await recall(engine, provider, one)
    await engine.answer(claims, PERMANENT)
    assert await engine.work() == []
    assert "fallback" not in await engine.events(one)


async def test_a_retry_that_may_have_arrived_is_taken_back_too(engine: Engine, provider: MemoryProvider) -> None:
    """The inbox said that it could not store, and had: the message would stand there though all was stopped."""
    cohort, [one] = await engine.planned(1, **INAPP)
    await engine.answer(await engine.claim(cohort, Channel.INAPP), RETRY)
    done = await recall(engine, provider, one)
    assert told(done) == {"inapp": "recalled"}
    assert (one, 1) in provider.recalled


async def test_what_ended_undelivered_and_what_cannot_be_asked(engine: Engine, provider: MemoryProvider) -> None:
    cohort, [one, two] = await engine.planned(2, **INAPP)
    [first, second] = await engine.claim(cohort, Channel.INAPP)
    await engine.answer([first], PERMANENT)
    await engine.answer([second], OK)
    done = await recall(engine, provider, one)
    assert (done.result, told(done)) == (RecallResult.ALREADY_FINISHED, {"inapp": "not_delivered"})
    assert await engine.end(one) == ("failed", "content_refused", True)
    provider.script(NotSent("away"))
    assert (await recall(engine, provider, two)).result is RecallResult.UNAVAILABLE
    assert (await engine.end(two))[0] == "sent"
    assert (await recall(engine, provider, two)).result is RecallResult.RECALLED


async def test_another_tenants_notification_is_not_found(engine: Engine, provider: MemoryProvider) -> None:
    [one] = await engine.accepted(tenant="other")
    for notification in (one, uuid7()):
        with pytest.raises(NotFound):
            await recall(engine, provider, notification)
    assert len(await engine.work()) == 1
