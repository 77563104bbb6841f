"""A chain leaves a channel whose calls fail, or whose answers are lost, in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.base import Message
from channels.receipts import Receipt
from domain.ids import reference
from domain.results import ResultClass, SendResult
from domain.states import Status
from tests.engine.fleet import Fleet
from tests.engine.hindering import (
    AFTER,
    OPTIONS,
    Hooks,
    lives,
    mail,
    plan,
    send,
)
from tests.engine.support import LOST, RETRY, TENANT, Engine


async def test_what_fails_again_and_again_goes_on_in_time(engine: Engine) -> None:
    """Caught: a lone message, which opens no circuit soon, went through the whole table: five hours in the medium lane. At
    the end of its time it is tried once more, and then elsewhere."""
    fleet = Fleet.of(engine, Account("hook", Hooks(answer=lambda _: RETRY), Slots(1)), mail())
    one = await send(fleet, **OPTIONS)
    passed = await lives(fleet, AFTER * 2)
    assert AFTER - timedelta(seconds=1) <= passed <= AFTER + timedelta(seconds=1)
    assert fleet.sent()["mail"] == 1
    assert fleet.sent()["hook"] in {4, 5}, "by the jitter"
    assert await engine.deliveries(one) == {"webhook": ("failed", "not_taken_in_time"), "email": ("sent", None)}


async def test_what_fails_for_longer_without_a_time_stays(engine: Engine) -> None:
    fleet = Fleet.of(engine, Account("hook", Hooks(answer=lambda _: RETRY), Slots(1)), mail())
    one = await send(fleet)
    await lives(fleet, timedelta(minutes=5))
    assert fleet.sent()["mail"] == 0
    assert await engine.deliveries(one) == {"webhook": ("retrying", None)}


async def test_a_stated_wait_that_is_too_long_is_not_waited_for(engine: Engine) -> None:
    """It could not be sent there in time without coming too early."""
    later = SendResult(ResultClass.RETRY, code="451", retry_after=timedelta(minutes=5), of_recipient=True)
    fleet = Fleet.of(engine, Account("hook", Hooks(answer=lambda _: later), Slots(1)), mail())
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    assert fleet.sent() == {"hook": 1, "mail": 1}
    assert (await engine.end(one))[0] == "sent"


@pytest.mark.parametrize("bounded", [False, True])
async def test_after_the_last_lost_answer_the_chain_goes_on_where_it_may_show_twice(
    engine: Engine,
    bounded: bool,  # noqa: FBT001 - a table
) -> None:
    """Caught: an answer that is lost each time was the end of the chain, though sending again was asked for. With `hold` it
    still is (`test_ends.py`)."""
    fleet = Fleet.of(engine, Account("hook", Hooks(answer=lambda _: LOST), Slots(1)), mail())
    one = await send(fleet, on_unknown="resend", **(OPTIONS if bounded else {}))
    await lives(fleet, AFTER)
    assert fleet.sent() == {"hook": 3, "mail": 1}
    assert await engine.deliveries(one) == {"webhook": ("unknown", "answer_lost"), "email": ("sent", None)}
    told = await engine.pool.fetch("SELECT detail->>'then' AS next FROM event WHERE type = 'unknown' ORDER BY id")
    assert [row["next"] for row in told] == ["resend", "resend", "fallback"]


async def test_a_cancelled_lost_answer_promises_no_next_channel(engine: Engine) -> None:
    provider = Hooks()
    fleet = Fleet.of(engine, Account("hook", provider, Slots(1)), mail())
    one = await send(fleet, on_unknown="resend")

    async def cancelled_meanwhile(messages: Sequence[Message]) -> Sequence[SendResult]:
        await engine.control.cancel(TENANT, notification_id=one)
        return [LOST for _ in messages]

    provider.send = cancelled_meanwhile  # type: ignore[method-assign, assignment]
    await plan(fleet)
    await engine.pool.execute("UPDATE work SET failures = 2")
    await fleet.drive()
    assert (await engine.detail(one, "unknown"))["then"] == "hold"
    assert fleet.sent()["mail"] == 0


async def test_a_receipt_of_the_channel_that_was_left_stops_the_next_one(engine: Engine) -> None:
    """What was lost arrived after all, before the next place had its turn."""
    fleet = Fleet.of(engine, Account("hook", Hooks(answer=lambda _: LOST, receipts=True), Slots(1)), mail())
    mails = fleet.accounts.get("mail")
    assert mails is not None
    mails.health.throttle.hold(6000.0, now_s=fleet.now_s, took_s=0.0)
    one = await send(fleet, on_unknown="resend", **OPTIONS)
    await lives(fleet, timedelta(seconds=30))
    assert [row["n"] for row in await engine.work(one)] == [2]
    await engine.receipts.take("hook", [Receipt(None, Status.DELIVERED, reference=reference(one, 1, attempt=3))])
    assert await engine.work(one) == []
    assert (await engine.end(one))[0] == "delivered"
