"""Receipts that do not come in time: another account, the next place of the chain, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.base import Message
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.results import ResultClass, SendResult
from infra.clock import ManualClock
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT
from tests.engine.driving import activities, drive
from tests.engine.fleet import AFTER, Fleet, Provider, account, reasons
from tests.engine.support import Engine

DELIVERED = SendResult(ResultClass.OK, delivered=True)


async def test_a_missing_receipt_moves_on_and_a_receipt_in_time_does_not(engine: Engine) -> None:
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=20))
    fleet = Fleet.of(engine, first, account("b", order=1, provider=Provider))
    [one] = await fleet.send()
    waits = await fleet.drive()
    assert list(waits) == ["a"]
    assert 15 < waits["a"] <= 20
    assert await engine.deliveries(one) == {"email": ("sent", None)}
    assert (await engine.end(one))[2] is False
    assert await fleet.drive_what_waits() == {}
    assert fleet.sent() == {"a": 1, "b": 1}
    assert await reasons(engine, one) == ["receipt_overdue"]
    assert await engine.end(one) == ("sent", None, False), "a receipt may still come"


async def test_a_chain_goes_on_when_no_receipt_comes_and_ends_where_it_is_not_needed(engine: Engine) -> None:
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    fleet = Fleet.of(engine, account("mail", provider=Provider), Account("hook", hook, Slots(4)))
    chain: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK], "strategy": "fallback"}
    [one] = await fleet.send(options=AFTER, **chain)
    waits = await fleet.drive()
    assert 50 < waits["mail"] <= 60
    assert await fleet.drive_what_waits() == {}
    assert await engine.deliveries(one) == {"email": ("sent", None), "webhook": ("sent", None)}
    assert (await engine.end(one))[0] == "sent"
    [two] = await fleet.send(**chain)
    assert await fleet.drive() == {}, "without fallback_after nothing is waited for"
    assert await engine.deliveries(two) == {"email": ("sent", None)}


async def test_what_proves_delivery_itself_is_not_waited_for(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("mail", DELIVERED, provider=Provider),
                     Account("hook", MemoryProvider(channel=Channel.WEBHOOK), Slots(4)))  # fmt: skip
    [one] = await fleet.send(user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK], strategy="fallback", options=AFTER)
    assert await fleet.drive() == {}
    assert await engine.end(one) == ("delivered", None, True)


async def test_cancelling_what_waits_for_a_receipt_keeps_what_was_sent(engine: Engine) -> None:
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    fleet = Fleet.of(engine, account("mail", provider=Provider), Account("hook", hook, Slots(4)))
    [one] = await fleet.send(user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK], strategy="fallback", options=AFTER)
    await fleet.drive()
    answer = await engine.control.cancel("acme", notification_id=one)
    assert (answer.result, answer.cancelled) == ("already_handed_off", ())
    assert await engine.deliveries(one) == {"email": ("sent", None)}
    assert await engine.end(one) == ("sent", None, False)
    assert hook.sent == []


async def test_what_was_in_flight_when_it_was_cancelled_is_not_waited_for(engine: Engine) -> None:
    """Catches: the success of a step whose receipt would be waited for, recorded as cancelled."""
    first = account("mail", provider=Provider)
    fleet = Fleet.of(engine, first, Account("hook", MemoryProvider(channel=Channel.WEBHOOK), Slots(4)))
    [one] = await fleet.send(user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK], strategy="fallback", options=AFTER)
    assert fleet.cohort is not None
    parts = activities(engine, accounts=fleet.accounts)

    async def cancelled_meanwhile(messages: Sequence[Message]) -> Sequence[SendResult]:
        await engine.control.cancel("acme", notification_id=one)
        return [SendResult(ResultClass.OK) for _ in messages]

    first.provider.send = cancelled_meanwhile  # type: ignore[method-assign, assignment]
    await ActivityEnvironment().run(parts.deliver, drive(fleet.cohort))
    assert await engine.work(one) == []
    assert await engine.deliveries(one) == {"email": ("sent", None)}
    assert await engine.end(one) == ("sent", None, False)


async def test_a_lost_look_at_an_overdue_receipt_makes_no_unknown(engine: Engine) -> None:
    """The worker dies between the claim and the decision: nothing had been handed over by that claim."""
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=20))
    fleet = Fleet.of(engine, first, account("b", order=1, provider=Provider))
    [one] = await fleet.send()
    await fleet.drive()
    await engine.make_due()
    assert fleet.cohort is not None
    claims = await engine.claim_over(fleet.cohort.id, "a")
    assert [c.awaiting for c in claims] == [True]
    await engine.lose(one)
    clock = ManualClock()
    next_worker = activities(engine, accounts=fleet.accounts, clock=clock)
    for _ in range(2):  # it sees the claim, and later that nobody comes back for it
        await ActivityEnvironment().run(next_worker.deliver, drive(fleet.cohort))
        clock.advance(HAND_OVER_LIMIT)
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1}
    assert "unknown" not in await engine.events(one)
    assert await engine.end(one) == ("sent", None, False)


async def test_what_was_read_in_time_stops_the_chain(engine: Engine) -> None:
    """Catches: a chain that goes on though the message was read while its look at it was due."""
    inbox, mail = MemoryProvider(channel=Channel.INAPP, answer=lambda _: DELIVERED), MemoryProvider()
    fleet = Fleet.of(engine, Account("inbox", inbox, Slots(4)), Account("mail", mail, Slots(4)))
    options = '{"fallback_after": "PT60S", "fallback_on": "not_read"}'
    chain: dict[str, Any] = {"user": "u-1", "channels": [Channel.INAPP, Channel.EMAIL], "strategy": "fallback"}
    for reads in (True, False):
        [one] = await fleet.send(options=options, **chain)
        assert 50 < (await fleet.drive())["inbox"] <= 60
        if reads:
            await engine.pool.execute("UPDATE delivery SET status = 'read' WHERE notification_id = $1", one)
        await fleet.drive_what_waits()
        assert (await engine.end(one))[::2] == ("read" if reads else "delivered", True)
        assert len(mail.sent) == (0 if reads else 1)
        assert ("fallback" in await engine.events(one)) is not reads
