"""What a receipt does to the ways that are still open: failover to another account, the next channel of a chain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from activities.handing_over.decisions import Decider
from channels.base import Message
from channels.inapp.inbox import InboxProvider
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import Lane
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.engine.giving_back import Returned
from infra.postgres.inbox.items import Inbox
from tests.engine.driving import activities, drive
from tests.engine.fleet import AFTER, Fleet, Provider, account, reasons
from tests.engine.reported_ways import CHAIN, LONG_CHAIN, NOT_READ, mail_then_hook, regrouped, report, two_accounts
from tests.engine.support import RETRY, Engine

if TYPE_CHECKING:
    from infra.postgres.database import Database


async def test_delivered_in_time_ends_the_wait_at_once(engine: Engine) -> None:
    for fleet, fields in ((two_accounts(engine), {}), (mail_then_hook(engine)[0], CHAIN | {"options": AFTER})):
        [one] = await fleet.send(**fields)
        assert list(await fleet.drive()) == ["a"]
        await report(engine, one, Status.DELIVERED)
        assert await engine.work(one) == []
        assert await engine.end(one) == ("delivered", None, True)
        assert await fleet.drive_what_waits() == {}
        assert sum(fleet.sent().values()) == 1


async def test_an_early_receipt_ends_the_wait_before_it_begins(engine: Engine) -> None:
    fleet, _ = mail_then_hook(engine)
    [one] = await fleet.send(options=AFTER, **CHAIN)
    await report(engine, one, Status.DELIVERED)
    assert await fleet.drive() == {}
    assert await engine.end(one) == ("delivered", None, True)
    assert fleet.sent() == {"a": 1, "hook": 0, "inbox": 0}


async def test_a_failure_goes_over_another_account_at_once(engine: Engine) -> None:
    fleet = two_accounts(engine)
    [one] = await fleet.send()
    await fleet.drive()
    taken = await report(engine, one, Status.FAILED, result=ResultClass.RETRY)
    assert taken.lanes == {Lane.MEDIUM}
    assert (await engine.deliveries(one))["email"] == ("retrying", None)
    await regrouped(fleet)
    assert await fleet.drive() == {}
    assert fleet.sent() == {"a": 1, "b": 1}
    assert await reasons(engine, one) == ["receipt_failed"]
    await report(engine, one, Status.FAILED, over="b")
    assert await engine.end(one) == ("failed", "undelivered", True)
    await report(engine, one, Status.DELIVERED)
    assert await engine.end(one) == ("delivered", None, True), "the first arrived after all"


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_a_step_has_failed_when_all_of_its_messages_have(engine: Engine, order: str) -> None:
    """Catches: the failure of a message that was given up long ago counts as that of the one that is out there."""
    fleet = two_accounts(engine)
    [one] = await fleet.send()
    await fleet.drive()
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1}
    await report(engine, one, Status.FAILED, over=order[0])
    assert await engine.end(one) == ("sent", None, False)
    await report(engine, one, Status.FAILED, over=order[1])
    assert await engine.end(one) == ("failed", "undelivered", True)


@pytest.mark.parametrize("result", [ResultClass.RECIPIENT, ResultClass.PERMANENT])
async def test_a_failure_that_no_account_could_change_goes_to_the_next_channel(engine: Engine, result: ResultClass) -> None:
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=20))
    second = account("b", order=1, provider=Provider)
    fleet = Fleet.of(engine, first, second, Account("hook", hook, Slots(4)))
    [one] = await fleet.send(options=AFTER, **CHAIN)
    await fleet.drive()
    await report(engine, one, Status.FAILED, result=result)
    await regrouped(fleet)
    assert await fleet.drive() == {}
    assert fleet.sent() == {"a": 1, "b": 0, "hook": 1}
    why = "recipient_refused" if result is ResultClass.RECIPIENT else "content_refused"
    assert await engine.deliveries(one) == {"email": ("failed", why), "webhook": ("sent", None)}
    assert await engine.pool.fetchval("SELECT count(*) FROM suppression") == (result is ResultClass.RECIPIENT)


async def test_an_early_failure_moves_on_without_a_wait(engine: Engine) -> None:
    fleet, _ = mail_then_hook(engine)
    [one] = await fleet.send(options=AFTER, **CHAIN)
    await report(engine, one, Status.FAILED)
    assert await fleet.drive() == {}, "by the workflow that handed it over"
    assert await engine.deliveries(one) == {"email": ("failed", "undelivered"), "webhook": ("sent", None)}


@pytest.mark.parametrize("parked", [False, True])
async def test_a_late_receipt_takes_back_the_next_account(engine: Engine, parked: bool) -> None:  # noqa: FBT001 - a table
    fleet = two_accounts(engine)
    [one] = await fleet.send()
    await fleet.drive()
    await engine.make_due()
    assert fleet.cohort is not None
    [look] = await engine.claim_over(fleet.cohort.id, "a")
    await engine.flush(Decider(fleet.accounts, cohort=fleet.cohort).overdue(look))
    assert [w["account"] for w in await engine.work(one)] == ["b"]
    if parked:
        wait = timedelta(minutes=5)
        await engine.claims.queue.park(fleet.cohort, account="b", wait=wait, spacing=timedelta(0))
    await report(engine, one, Status.DELIVERED)
    assert await engine.work(one) == []
    assert await engine.end(one) == ("delivered", None, True)
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 0}


async def test_a_late_receipt_takes_back_the_next_channel_and_says_so(engine: Engine) -> None:
    fleet, hook = mail_then_hook(engine, RETRY)
    [one] = await fleet.send(options=AFTER, **CHAIN)
    await fleet.drive()
    await fleet.drive_what_waits()
    assert [(w["channel"], w["state"]) for w in await engine.work(one)] == [("webhook", 0)], "its retry waits"
    await report(engine, one, Status.DELIVERED)
    assert await engine.work(one) == []
    assert await engine.end(one) == ("delivered", None, True)
    assert await engine.deliveries(one) == {"email": ("delivered", None), "webhook": ("suppressed", "arrived_elsewhere")}
    await fleet.drive_what_waits()
    assert len(hook.sent) == 1


@pytest.mark.parametrize("answer", [RETRY, SendResult(ResultClass.PERMANENT), SendResult(ResultClass.OK)])
async def test_what_is_in_flight_when_it_arrives_is_the_last(engine: Engine, answer: SendResult) -> None:
    """Neither its retry nor the third channel follows."""
    fleet, hook = mail_then_hook(engine)
    [one] = await fleet.send(options=AFTER, **LONG_CHAIN)
    await fleet.drive()

    async def arrives_meanwhile(messages: Sequence[Message]) -> Sequence[SendResult]:
        await report(engine, one, Status.DELIVERED)
        return [answer for _ in messages]

    hook.send = arrives_meanwhile  # type: ignore[method-assign, assignment]
    await fleet.drive_what_waits()
    assert await engine.work(one) == []
    assert (await engine.end(one))[0] == "delivered"
    assert fleet.sent()["inbox"] == 0


async def test_a_receipt_stops_no_other_channel_where_all_are_asked_for(engine: Engine) -> None:
    fleet, hook = mail_then_hook(engine, RETRY)
    [one] = await fleet.send(**CHAIN | {"strategy": "all"})
    await fleet.drive()
    await report(engine, one, Status.DELIVERED)
    assert [w["channel"] for w in await engine.work(one)] == ["webhook"]
    await fleet.drive_what_waits()
    assert len(hook.sent) == 2


async def test_delivered_is_not_read(engine: Engine) -> None:
    """A chain that waits for reading goes on waiting, by the time it was sent; no account is tried any more."""
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=20))
    fleet = Fleet.of(engine, first, account("b", order=1, provider=Provider), Account("hook", hook, Slots(4)))
    for reads in (True, False):
        [one] = await fleet.send(options=NOT_READ, **CHAIN)
        assert 15 < (await fleet.drive())["a"] <= 20
        await report(engine, one, Status.DELIVERED)
        [open_] = await engine.work(one)
        sent_at = await engine.pool.fetchval("SELECT sent_at FROM delivery WHERE notification_id = $1", one)
        assert open_["due_at"] - sent_at == timedelta(seconds=60)
        if reads:
            await report(engine, one, Status.READ)
            assert await engine.end(one) == ("read", None, True)
        else:
            await engine.make_due()
            await regrouped(fleet)
            await fleet.drive()
            assert await engine.deliveries(one) == {"email": ("delivered", None), "webhook": ("sent", None)}
    assert fleet.sent() == {"a": 2, "b": 0, "hook": 1}


@pytest.mark.parametrize(
    ("status", "options", "sent"),
    [
        (Status.DELIVERED, AFTER, {"a": 1, "b": 0, "hook": 0}),
        (Status.DELIVERED, NOT_READ, {"a": 1, "b": 0, "hook": 1}),
        (Status.FAILED, AFTER, {"a": 1, "b": 1, "hook": 1}),
    ],
)
async def test_a_receipt_while_somebody_looks(engine: Engine, status: Status, options: str, sent: dict[str, int]) -> None:
    """The look was begun without it, and decides anew when it finds it."""
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=20))
    fleet = Fleet.of(engine, first, account("b", order=1, provider=Provider), Account("hook", hook, Slots(4)))
    [one] = await fleet.send(options=options, **CHAIN)
    await fleet.drive()
    await engine.make_due()
    assert fleet.cohort is not None
    [look] = await engine.claim_over(fleet.cohort.id, "a")
    outcome = Decider(fleet.accounts, cohort=fleet.cohort).overdue(look)
    await report(engine, one, status)
    await engine.flush(outcome)
    await fleet.drive()
    assert fleet.sent()["hook"] == 0
    await fleet.drive_what_waits()
    assert fleet.sent() == sent
    assert await reasons(engine, one) == (["receipt_failed"] if status is Status.FAILED else [])


async def test_reading_in_the_inbox_is_as_good_as_a_receipt(engine: Engine) -> None:
    """It ends the wait at once, and what would have followed; not only when somebody looks."""
    inbox = Inbox(cast("Database", SimpleNamespace(pool=engine.pool)))
    stored, mail = InboxProvider(inbox), MemoryProvider(answer=lambda _: RETRY)
    fleet = Fleet.of(engine, Account("inbox", stored, Slots(4)), Account("mail", mail, Slots(4)))
    chain = CHAIN | {"channels": [Channel.INAPP, Channel.EMAIL]}
    for late in (False, True):
        [one] = await fleet.send(options=NOT_READ, **chain)
        assert 50 < (await fleet.drive())["inbox"] <= 60
        if late:
            await fleet.drive_what_waits()
            assert [(w["channel"], w["state"]) for w in await engine.work(one)] == [("email", 0)]
        item = await engine.pool.fetchval("SELECT id FROM inbox_item WHERE notification_id = $1", one)
        await inbox.mark_read("acme", "u-1", item=item)
        assert await engine.work(one) == []
        assert await engine.end(one) == ("read", None, True)
    assert await engine.deliveries(one) == {"inapp": ("read", None), "email": ("suppressed", "arrived_elsewhere")}
    assert len(mail.sent) == 1


async def test_each_account_is_tried_once_where_none_confirms(engine: Engine) -> None:
    """Caught: what waited for the last account's receipt went back to the first, again and again."""
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=20))
    second = account("b", order=1, provider=Provider, receipt_within=timedelta(seconds=20))
    fleet = Fleet.of(engine, first, second, Account("hook", hook, Slots(4)))
    await fleet.send(options=AFTER, **CHAIN)
    await fleet.drive()
    for _ in range(6):
        await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1, "hook": 1}


async def test_what_was_cancelled_while_it_waited_stays_and_is_corrected(engine: Engine) -> None:
    fleet, hook = mail_then_hook(engine)
    [one] = await fleet.send(options=AFTER, **CHAIN)
    await fleet.drive()
    await engine.control.cancel("acme", notification_id=one)
    await report(engine, one, Status.FAILED)
    assert await engine.end(one) == ("failed", "undelivered", True)
    assert hook.sent == []


async def test_what_is_cancelled_while_its_failure_is_looked_at(engine: Engine) -> None:
    fleet = two_accounts(engine)
    [one] = await fleet.send()
    await fleet.drive()
    await report(engine, one, Status.FAILED)
    await regrouped(fleet)
    assert fleet.cohort is not None
    [look] = await engine.claim_over(fleet.cohort.id, "a")
    await engine.control.cancel("acme", notification_id=one)
    await engine.flush(Decider(fleet.accounts, cohort=fleet.cohort).overdue(look))
    assert await engine.work(one) == []
    assert await engine.end(one) == ("cancelled", "cancelled_by_request", True)
    assert fleet.sent() == {"a": 1, "b": 0}


async def test_what_is_given_back_after_it_arrived_is_not_sent(engine: Engine) -> None:
    """A worker stops with the other account's attempt in its hands."""
    fleet = two_accounts(engine)
    [one] = await fleet.send()
    await fleet.drive()
    await engine.pool.execute("UPDATE work SET awaiting = false, account = 'b', tried = '{a}', due_at = now()")
    assert fleet.cohort is not None
    [claim] = await engine.claim_over(fleet.cohort.id, "b")
    await report(engine, one, Status.DELIVERED)
    await engine.claims.give_back([Returned(one, 1, claim.attempt)])
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 0}
    assert await engine.end(one) == ("delivered", None, True)


async def test_receipts_of_a_whole_cohort_while_it_is_driven(engine: Engine) -> None:
    """Reports of every kind come in while workers hand over, look and record: each message ends once, and nobody waits."""
    fleet, _ = mail_then_hook(engine)
    ids = await fleet.send(60, options=AFTER, **CHAIN)
    assert fleet.cohort is not None
    parts = activities(engine, accounts=fleet.accounts)

    async def reports() -> None:
        for k, one in enumerate(ids):
            await report(engine, one, (Status.DELIVERED, Status.SENT, Status.FAILED)[k % 3])

    await asyncio.gather(ActivityEnvironment().run(parts.deliver, drive(fleet.cohort)), reports())
    while (cohort := await engine.cohorts.group(Lane.MEDIUM)) is not None:
        await ActivityEnvironment().run(parts.deliver, drive(cohort))
    await fleet.drive_what_waits()
    ends = [(await engine.end(one))[0] for one in ids]
    assert ends == ["delivered", "sent", "sent"] * 20
    assert await engine.work() == []
    assert len(fleet.accounts.get("hook").provider.sent) == 40  # type: ignore[union-attr]
