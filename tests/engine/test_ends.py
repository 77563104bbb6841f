"""How a notification ends: once, by all its channels, whatever the order in which they ended."""

from __future__ import annotations

import asyncio
import time

import pytest

from domain.channels import Channel
from domain.results import SendResult
from infra.postgres.engine.outcomes import OutcomeRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import LOST, OK, PERMANENT, RETRY, Engine

THREE = (Channel.EMAIL, Channel.WEBHOOK, Channel.INAPP)


async def test_two_channels_that_end_in_the_same_moment(engine: Engine) -> None:
    """Catches: no lock before the flush, and lock and decision in one statement (one snapshot). Each then sees the other's
    step still open, and the notification never ends."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=THREE[:2])
    [mail] = await engine.claim(cohort, Channel.EMAIL)
    [hook] = await engine.claim(cohort, Channel.WEBHOOK)
    gate = Gate("n.strategy, n.status", after=True)  # the first has decided, and not committed
    first = asyncio.create_task(
        OutcomeRepository(gated(engine.pool, gate)).flush([engine.answered(mail, PERMANENT)], now_s=time.monotonic())
    )
    await gate.reached.wait()
    second = asyncio.create_task(engine.flush(engine.answered(hook, OK)))
    await done_or_blocked(engine.pool, second)
    gate.open.set()
    await asyncio.gather(first, second)
    assert await engine.end(one) == ("sent", None, True)
    assert (await engine.notification(one))["partial"] is True


async def test_it_does_not_end_while_a_channel_is_open(engine: Engine) -> None:
    """Otherwise people would see `failed` of a message whose other channel is just being tried."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=THREE)
    await engine.answer(await engine.claim(cohort, Channel.EMAIL), PERMANENT)
    await engine.answer(await engine.claim(cohort, Channel.WEBHOOK), RETRY)
    await engine.answer(await engine.claim(cohort, Channel.INAPP), OK)
    assert await engine.end(one) == ("accepted", None, False)
    await engine.make_due()
    await engine.answer(await engine.claim(cohort, Channel.WEBHOOK), OK)
    assert await engine.end(one) == ("sent", None, True)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_the_end_does_not_depend_on_the_order(engine: Engine, order: tuple[int, ...]) -> None:
    """Otherwise the same sends would be reported in two ways."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=THREE)
    answers: list[SendResult] = [PERMANENT, LOST, PERMANENT]
    for place in order:
        await engine.answer(await engine.claim(cohort, THREE[place]), answers[place])
    assert await engine.end(one) == ("unknown", "answer_lost", True)


async def test_the_next_place_of_a_chain_is_opened_exactly_once(engine: Engine) -> None:
    """Catches: a chain opened by any outcome of the step. The flush is repeated, and the attempt before tells itself late;
    each would open the next place again, and it would be sent twice."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=THREE, strategy="fallback")
    [row] = await engine.work()
    assert (row["channel"], row["chain"] is not None) == ("email", True)
    earlier = await engine.answer(await engine.claim(cohort), RETRY)
    await engine.make_due()
    failed = await engine.answer(await engine.claim(cohort), PERMANENT)
    [row] = await engine.work()
    assert (row["channel"], row["n"], row["account"], row["attempt"]) == ("webhook", 2, "memory-webhook", 0)
    await engine.flush(*failed)
    [hook] = await engine.claim(cohort, Channel.WEBHOOK)
    await engine.flush(*earlier, *failed)
    await engine.answer([hook], OK)
    await engine.flush(*failed)
    assert await engine.work() == []
    assert await engine.end(one) == ("sent", None, True)
    assert (await engine.notification(one))["partial"] is False
    assert list(await engine.deliveries(one)) == ["email", "webhook"]
    assert (await engine.events(one)).count("fallback") == 1


async def test_the_chain_goes_to_its_last_place_and_fails_there(engine: Engine) -> None:
    """Otherwise a place of the chain would be left out, or the notification never end."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=THREE, strategy="fallback")
    for channel in THREE:
        [claim] = await engine.claim(cohort, channel)
        await engine.answer([claim], PERMANENT)
    assert await engine.end(one) == ("failed", "content_refused", True)
    assert list(await engine.deliveries(one)) == ["email", "webhook", "inapp"]


async def test_an_unknown_that_is_held_stops_the_chain(engine: Engine) -> None:
    """Catches: a fallback after an unknown. It may have arrived by mail, and would arrive again by another channel."""
    cohort, [one] = await engine.planned(
        1, user="u-1", channels=THREE, strategy="fallback", options='{"on_unknown": "hold"}'
    )
    await engine.answer(await engine.claim(cohort), LOST)
    assert await engine.work() == []
    assert await engine.end(one) == ("unknown", "answer_lost", True)


async def test_a_late_answer_corrects_the_end_and_keeps_its_time(engine: Engine) -> None:
    """The end was told; what it is may still be corrected, when it was is not."""
    cohort, [one] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    await engine.lose(one)
    await engine.flush(*[engine.decider().lost(c) for c in await engine.lost(None, limit=1)])
    before = await engine.notification(one)
    await engine.answer([claim], OK)
    after = await engine.notification(one)
    assert (before["status"], after["status"]) == ("unknown", "sent")
    assert after["finished_at"] == before["finished_at"]
