"""A chain leaves a channel that takes nothing within `fallback_after`, first for another account; never one that works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from activities.handing_over.decisions import STOPPED_LOOK
from channels.base import Message
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.ids import reference
from domain.lanes import Lane
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.engine.expediting import ExpediteRepository
from tests.engine.fleet import Fleet, Provider, reasons
from tests.engine.hindering import (
    AFTER,
    CHAIN,
    HINDRANCES,
    OPTIONS,
    TOLD,
    Hooks,
    fleet_of,
    hindered,
    hook,
    lives,
    mail,
    passes,
    plan,
    send,
    stored,
    waits,
)
from tests.engine.support import LOST, RETRY, TENANT, Engine, window


@HINDRANCES
async def test_the_next_channel_gets_it_within_the_time(engine: Engine, why: str) -> None:
    """Caught: the time counted from the moment at which a provider took it, so that in an outage nothing fell back."""
    fleet = await fleet_of(engine, why)
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    assert fleet.sent() == {"mail": 0, "hook": 0}
    [open_] = await engine.work(one)
    assert open_["n"] == 1
    assert open_["due_at"] <= open_["falls_back_at"], "nothing waits beyond it"
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"mail": 1, "hook": 0}
    assert await engine.work(one) == []
    assert await engine.deliveries(one) == {"webhook": ("failed", "not_taken_in_time"), "email": ("sent", None)}
    said = {"channel": "email", "after": "webhook", "reason": TOLD[why]}
    assert await engine.detail(one, "fallback") == said
    assert (await engine.end(one))[0] == "sent"


@HINDRANCES
async def test_without_a_time_it_waits_for_its_account(engine: Engine, why: str) -> None:
    """As ever; also where it has another channel. The last place of a chain waits too."""
    fleet = await fleet_of(engine, why)
    one = await send(fleet)
    await fleet.drive()
    await passes(fleet, max(AFTER, STOPPED_LOOK))
    await fleet.drive()
    [open_] = await engine.work(one)
    assert (open_["n"], open_["falls_back_at"]) == (1, None)
    assert fleet.sent() == {"mail": 0, "hook": 0}


@HINDRANCES
async def test_another_account_goes_before_the_next_channel(engine: Engine, why: str) -> None:
    fleet = await fleet_of(engine, why)
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    other = hook("other", order=1)
    fleet.accounts.replace([*fleet.accounts, other])
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"mail": 0, "hook": 0, "other": 1}
    assert await reasons(engine, one) == [TOLD[why]]
    assert await engine.deliveries(one) == {"webhook": ("sent", None)}


async def test_when_no_account_of_the_channel_takes_it_the_next_channel_does(engine: Engine) -> None:
    """It moves on from the one to the other, and is not sent round between them."""
    fleet = await fleet_of(engine, "slot")
    fleet.accounts.replace([*fleet.accounts, await hindered(engine, hook("other", order=1), "slot", now_s=fleet.now_s)])
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"mail": 1, "hook": 0, "other": 0}
    assert await reasons(engine, one) == ["busy"]
    assert (await engine.deliveries(one))["webhook"] == ("failed", "not_taken_in_time")


async def test_an_account_that_works_gets_it_however_late(engine: Engine) -> None:
    """Catches: a backlog, or a worker that was away for a minute, that skips a channel which is well."""
    fleet = Fleet.of(engine, hook(), mail())
    one = await send(fleet, **OPTIONS)
    await plan(fleet)
    await passes(fleet, AFTER * 2)
    await fleet.drive()
    assert fleet.sent() == {"hook": 1, "mail": 0}
    assert await engine.deliveries(one) == {"webhook": ("sent", None)}


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


async def test_the_time_begins_anew_with_each_place(engine: Engine) -> None:
    fleet = Fleet.of(engine, Account("hook", Hooks(answer=lambda _: RETRY), Slots(1)), mail(),
                     Account("inbox", MemoryProvider(channel=Channel.INAPP), Slots(1)))  # fmt: skip
    mails = fleet.accounts.get("mail")
    assert mails is not None
    mails.health.throttle.hold(6000.0, now_s=fleet.now_s, took_s=0.0)
    three = {**CHAIN, "channels": [*CHAIN["channels"], Channel.INAPP]}
    [one] = await fleet.send(options='{"fallback_after": "PT40S"}', **three)
    passed = await lives(fleet, AFTER * 3)
    assert 2 * AFTER - timedelta(seconds=1) <= passed <= 2 * AFTER + timedelta(seconds=2)
    assert [status for status, _ in (await engine.deliveries(one)).values()] == ["failed", "failed", "sent"]


async def test_the_last_place_waits_as_long_as_it_lives(engine: Engine) -> None:
    fleet = await fleet_of(engine, "circuit")
    mails = fleet.accounts.get("mail")
    assert mails is not None
    mails.health.throttle.hold(6000.0, now_s=fleet.now_s, took_s=0.0)
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    await passes(fleet, AFTER)
    await fleet.drive()
    [open_] = await engine.work(one)
    assert (open_["n"], open_["falls_back_at"]) == (2, None)


async def test_what_a_window_put_off_has_its_time_from_the_opening(engine: Engine) -> None:
    """Catches: a time that runs while nothing may be sent, so that a channel which is down for a second at the opening is
    skipped; in the plan and at the claim."""
    fleet = Fleet.of(engine, hook(), mail())
    closed = stored({**msgspec.json.decode(window(opens_in=2)[0]), **OPTIONS})
    asked: dict[str, Any] = {"lane": Lane.LOW, "expires_in": timedelta(hours=30), **CHAIN}
    _, [planned] = await engine.planned(1, options=closed, **asked)
    [one] = await engine.accepted(1, options=stored(OPTIONS), **asked)
    fleet.cohort = await engine.grouped(Lane.LOW)
    await plan(fleet)
    await engine.pool.execute("UPDATE notification SET options = $2 WHERE id = $1", one, closed)
    await engine.pool.execute("UPDATE work SET falls_back_at = now() WHERE notification_id = $1", one)
    await fleet.drive()
    for row in await engine.work():
        assert row["falls_back_at"] - row["due_at"] == AFTER
    assert {row["notification_id"] for row in await engine.work()} == {planned, one}


async def test_what_is_hurried_has_its_time_from_now(engine: Engine) -> None:
    closed = stored({**msgspec.json.decode(window(opens_in=2)[0]), **OPTIONS})
    _, [one] = await engine.planned(1, lane=Lane.LOW, options=closed, expires_in=timedelta(hours=30), **CHAIN)
    await ExpediteRepository(engine.pool).expedite(TENANT, notification_id=one)
    [open_] = await engine.work(one)
    assert open_["falls_back_at"] - open_["due_at"] == AFTER
    assert (await waits(engine) or timedelta(0)) <= timedelta(0)


async def test_what_was_taken_waits_for_its_receipt_and_no_less(engine: Engine) -> None:
    """Taken at the end of its time, it has the whole time for its receipt; the account may be down by then."""
    fleet = Fleet.of(engine, Account("hook", Hooks(receipts=True), Slots(1)), mail())
    one = await send(fleet, **OPTIONS)
    await plan(fleet)
    await passes(fleet, AFTER - timedelta(seconds=5))
    await fleet.drive()
    assert fleet.sent() == {"hook": 1, "mail": 0}
    first = fleet.accounts.get("hook")
    assert first is not None
    await hindered(engine, first, "circuit", now_s=fleet.now_s)
    await passes(fleet, timedelta(seconds=30))
    await fleet.drive()
    assert fleet.sent()["mail"] == 0
    await passes(fleet, timedelta(seconds=30))
    await fleet.drive()
    assert fleet.sent()["mail"] == 1
    assert await engine.deliveries(one) == {"webhook": ("sent", None), "email": ("sent", None)}


async def test_what_was_sent_and_moved_goes_on_from_an_account_that_is_down(engine: Engine) -> None:
    """No receipt came over the first account, and the other takes nothing: the chain goes on, what was sent stays so."""
    within = timedelta(seconds=20)
    first = Account("a", Provider(), Slots(4), receipt_within=within)
    fleet = Fleet.of(engine, first, Account("b", Provider(), Slots(1), order=1), hook())
    chain = {**CHAIN, "channels": [Channel.EMAIL, Channel.WEBHOOK]}
    [one] = await fleet.send(options='{"fallback_after": "PT40S"}', **chain)
    await fleet.drive()
    await passes(fleet, within)
    other = fleet.accounts.get("b")
    assert other is not None
    await other.slots.take(1)
    await fleet.drive()
    [open_] = await engine.work(one)
    assert (open_["account"], open_["awaiting"]) == ("b", False)
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"a": 1, "b": 0, "hook": 1}
    assert await engine.deliveries(one) == {"email": ("sent", None), "webhook": ("sent", None)}


async def test_a_claim_that_goes_back_does_not_wait_beyond_it(engine: Engine) -> None:
    """Catches: a receiver that asks for five minutes, of a message that was claimed with others to it."""
    fleet = Fleet.of(engine, hook(), mail())
    one = await send(fleet, **OPTIONS)
    await plan(fleet)
    assert fleet.cohort is not None
    [claim] = await engine.claim_over(fleet.cohort.id, "hook")
    back = replace(engine.decider(fleet.cohort).returned(claim), wait=timedelta(minutes=5))
    await engine.claims.give_back([back])
    [open_] = await engine.work(one)
    assert open_["due_at"] == open_["falls_back_at"]


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
