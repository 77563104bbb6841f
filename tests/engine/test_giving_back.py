"""Claims that go back unsent while an earlier message of the step is out there: what is sent then, and waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from activities.accounts.account import Account, Stop
from activities.accounts.slots import Slots
from activities.handing_over.decisions import Decider
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.ids import reference
from domain.rechecks import Verdict
from domain.results import ResultClass, SendResult
from domain.states import Status
from domain.windows import Because, PutOff
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.setting_aside import Unreadable
from infra.postgres.engine.step_outcome import StepOutcome
from tests.engine.fleet import AFTER, Fleet, Provider, account
from tests.engine.reported_ways import CHAIN, NOT_READ, report, two_accounts
from tests.engine.support import LOST, PERMANENT, RETRY, Engine

RESENT_IN_A_CHAIN = '{"fallback_after": "PT60S", "on_unknown": "resend"}'
OK = SendResult(ResultClass.OK)


async def claimed(fleet: Fleet, over: str) -> Claim:
    await fleet.engine.make_due()
    assert fleet.cohort is not None
    [claim] = await fleet.engine.claim_over(fleet.cohort.id, over)
    return claim


def decider(fleet: Fleet) -> Decider:
    assert fleet.cohort is not None
    return Decider(fleet.accounts, cohort=fleet.cohort)


async def moved(fleet: Fleet, **fields: Any) -> tuple[UUID, Claim]:
    """Sent over a; no receipt came, and b's turn is in somebody's hands."""
    [one] = await fleet.send(**fields)
    await fleet.drive()
    look = await claimed(fleet, "a")
    assert look.awaiting
    await fleet.engine.flush(decider(fleet).overdue(look))
    return one, await claimed(fleet, "b")


async def give_back(fleet: Fleet, claim: Claim) -> None:
    await fleet.engine.claims.give_back([decider(fleet).returned(claim)])


async def test_what_goes_over_another_account_is_sent_in_its_turn(engine: Engine) -> None:
    """Caught: the record says `sent` of the first message, and the second was never sent: a look found it overdue."""
    fleet = two_accounts(engine)
    one, claim = await moved(fleet)
    assert (claim.awaiting, claim.receipt) == (False, ResultClass.OK)
    await give_back(fleet, claim)
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1}
    assert await engine.pool.fetchval("SELECT account FROM delivery WHERE notification_id = $1", one) == "b"


async def test_a_retry_over_another_account_is_sent_in_its_turn(engine: Engine) -> None:
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=20))
    fleet, _ = chain_with(engine, first, account("b", order=1, provider=Provider))
    _, claim = await moved(fleet, options=AFTER, **CHAIN)
    await engine.flush(decider(fleet).answered(claim, RETRY, started_s=0))
    again = await claimed(fleet, "b")
    await give_back(fleet, again)
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1, "hook": 0}, "the attempt that failed was made by hand"


async def test_nothing_goes_over_another_account_once_the_first_message_is_delivered(engine: Engine) -> None:
    fleet = two_accounts(engine)
    one, claim = await moved(fleet)
    await report(engine, one, Status.DELIVERED)
    await give_back(fleet, claim)
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 0}
    assert await engine.end(one) == ("delivered", None, True)


def chain_with(engine: Engine, *more: Account) -> tuple[Fleet, MemoryProvider]:
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    return Fleet.of(engine, *more, Account("hook", hook, Slots(4))), hook


async def due_after_it_was_sent(engine: Engine, one: UUID) -> timedelta:
    [row] = await engine.work(one)
    assert (row["state"], row["awaiting"]) == (0, True)
    sent_at: datetime = await engine.pool.fetchval("SELECT sent_at FROM delivery WHERE notification_id = $1", one)
    since: timedelta = row["due_at"] - sent_at
    return since


async def resent(fleet: Fleet, **fields: Any) -> tuple[UUID, Claim, Claim]:
    """It was lost over a, and its resend is in somebody's hands."""
    [one] = await fleet.send(**fields)
    assert fleet.cohort is not None
    await replace(fleet.engine, accounts=fleet.accounts).plan(fleet.cohort)
    first = await claimed(fleet, "a")
    await fleet.engine.flush(decider(fleet).answered(first, LOST, started_s=0))
    return one, first, await claimed(fleet, "a")


async def taken_meanwhile(fleet: Fleet, **fields: Any) -> tuple[UUID, Claim]:
    """The answer of the lost one comes while its resend is under way."""
    one, first, resend = await resent(fleet, **fields)
    await fleet.engine.flush(decider(fleet).answered(first, OK, started_s=0))
    assert await fleet.engine.deliveries(one) == {"email": ("sent", None)}
    return one, resend


async def test_a_lost_attempt_that_arrived_is_waited_for_as_long_as_ever(engine: Engine) -> None:
    """Caught: the next channel was opened at once."""
    fleet, hook = chain_with(engine, account("a", provider=Provider))
    one, resend = await taken_meanwhile(fleet, options=RESENT_IN_A_CHAIN, **CHAIN)
    await give_back(fleet, resend)
    assert await due_after_it_was_sent(engine, one) == timedelta(seconds=60)
    await fleet.drive()
    assert hook.sent == []
    await fleet.drive_what_waits()
    assert len(hook.sent) == 1
    assert fleet.sent() == {"a": 0, "hook": 1}, "its answers were given by hand"


@pytest.mark.parametrize("answer", [RETRY, LOST, PERMANENT], ids=["refused", "lost", "refused for good"])
async def test_a_resend_that_does_not_arrive_waits_for_what_was_taken_meanwhile(engine: Engine, answer: SendResult) -> None:
    """Caught: it was sent once more on top of the message that was known to be there, or its chain went on at once."""
    fleet, hook = chain_with(engine, account("a", provider=Provider))
    one, resend = await taken_meanwhile(fleet, options=RESENT_IN_A_CHAIN, **CHAIN)
    await engine.flush(decider(fleet).answered(resend, answer, started_s=0))
    assert await due_after_it_was_sent(engine, one) == timedelta(seconds=60)
    assert await engine.deliveries(one) == {"email": ("sent", None)}
    told = await engine.detail(one, "attempt")
    assert (told["attempt"], told.get("retry_at")) == (2, None)
    assert fleet.sent() == {"a": 0, "hook": 0}
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 0, "hook": 1}, "no receipt came: the next channel, and not the same once more"
    assert len(hook.sent) == 1


async def test_two_answers_that_are_written_together_are_written_one_after_the_other(engine: Engine) -> None:
    """Caught: the resend's refusal stood in the record, and the message that was taken was sent again."""
    fleet, hook = chain_with(engine, account("a", provider=Provider))
    one, first, resend = await resent(fleet, options=RESENT_IN_A_CHAIN, **CHAIN)
    made = decider(fleet)
    await engine.flush(made.answered(resend, RETRY, started_s=0), made.answered(first, OK, started_s=0))
    assert await engine.deliveries(one) == {"email": ("sent", None)}
    assert 50 < (await fleet.drive())["a"] <= 60
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 0, "hook": 1}, "its answers were given by hand"
    assert len(hook.sent) == 1


async def test_what_was_taken_meanwhile_ends_there_when_its_receipt_comes(engine: Engine) -> None:
    fleet, hook = chain_with(engine, account("a", provider=Provider))
    one, resend = await taken_meanwhile(fleet, options=RESENT_IN_A_CHAIN, **CHAIN)
    await engine.flush(decider(fleet).answered(resend, RETRY, started_s=0))
    await engine.receipts.take("a", [Receipt(None, Status.DELIVERED, reference=reference(one, 1, attempt=1))])
    await fleet.drive_what_waits()
    assert await engine.end(one) == ("delivered", None, True)
    assert hook.sent == []


@pytest.mark.parametrize("answer", [RETRY, PERMANENT], ids=["refused", "refused for good"])
async def test_a_refusal_beside_a_delivered_message_waits_for_its_being_read(engine: Engine, answer: SendResult) -> None:
    """Caught: refused for good, the next channel was opened at once."""
    accounts = [
        account(name, provider=Provider, order=order, receipt_within=timedelta(seconds=20))
        for order, name in enumerate("ab")
    ]
    fleet, hook = chain_with(engine, *accounts)
    one, claim = await moved(fleet, options=NOT_READ, **CHAIN)
    await report(engine, one, Status.DELIVERED)
    await engine.flush(decider(fleet).answered(claim, answer, started_s=0))
    assert await due_after_it_was_sent(engine, one) == timedelta(seconds=60)
    assert hook.sent == []
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 0, "hook": 1}


async def test_a_delivered_message_is_waited_for_being_read(engine: Engine) -> None:
    """Caught: it went over a third account, and the next channel was opened at once."""
    accounts = [
        account(name, provider=Provider, order=order, receipt_within=timedelta(seconds=20))
        for order, name in enumerate("abc")
    ]
    fleet, hook = chain_with(engine, *accounts)
    one, claim = await moved(fleet, options=NOT_READ, **CHAIN)
    await report(engine, one, Status.DELIVERED)
    await give_back(fleet, claim)
    assert await due_after_it_was_sent(engine, one) == timedelta(seconds=60)
    assert hook.sent == []
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 0, "c": 0, "hook": 1}


@pytest.mark.parametrize("options", [None, AFTER])
async def test_a_look_that_goes_back_looks_again_at_once(engine: Engine, options: str | None) -> None:
    fleet = two_accounts(engine)
    await fleet.send(options=options)
    await fleet.drive()
    await give_back(fleet, await claimed(fleet, "a"))
    await fleet.drive()
    assert fleet.sent() == {"a": 1, "b": 1}


def not_in_time(fleet: Fleet, resend: Claim) -> StepOutcome:
    """Its account takes nothing, and the time of its place in the chain is over."""
    late = replace(resend, falls_back_at=resend.claimed_at - timedelta(seconds=1))
    return decider(fleet).unserved(late, stopped=Stop.PAUSED)


def paused(fleet: Fleet, resend: Claim) -> StepOutcome:
    return decider(fleet).unserved(resend, stopped=Stop.PAUSED)


def put_off(fleet: Fleet, resend: Claim) -> StepOutcome:
    quiet = PutOff(resend.claimed_at + timedelta(hours=1), Because.QUIET_HOURS)
    return decider(fleet).stopped(replace(resend, verdict=Verdict.NOT_NOW, put_off=quiet))


def broken(fleet: Fleet, resend: Claim) -> StepOutcome:
    return decider(fleet).broken(resend, "KeyError")


@pytest.mark.parametrize("end", [not_in_time, paused, put_off, broken])
async def test_a_resend_that_ends_without_a_call_waits_for_what_was_taken_meanwhile(
    engine: Engine, end: Callable[[Fleet, Claim], StepOutcome]
) -> None:
    """Caught: it waited for the receipt until it expired, hours; or for none, and the next channel was never opened."""
    fleet, hook = chain_with(engine, account("a", provider=Provider))
    one, resend = await taken_meanwhile(fleet, options=RESENT_IN_A_CHAIN, expires_in=timedelta(hours=9), **CHAIN)
    await engine.flush(end(fleet, resend))
    assert await due_after_it_was_sent(engine, one) == timedelta(seconds=60)
    assert await engine.deliveries(one) == {"email": ("sent", None)}
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 0, "hook": 1}
    assert len(hook.sent) == 1


async def test_what_nobody_can_read_waits_for_what_was_taken_meanwhile(engine: Engine) -> None:
    """Caught: the next channel was opened ten seconds after it was put aside."""
    fleet, hook = chain_with(engine, account("a", provider=Provider))
    one, resend = await taken_meanwhile(fleet, options=RESENT_IN_A_CHAIN, expires_in=timedelta(hours=9), **CHAIN)
    await engine.claims.set_aside([Unreadable(*resend.step, resend.attempt, resend.faults, "ValueError")])
    assert await due_after_it_was_sent(engine, one) == timedelta(seconds=60)
    await engine.pool.execute("UPDATE work SET expires_at = now() + interval '20 seconds', state = 1, awaiting = false")
    await engine.claims.set_aside([Unreadable(*resend.step, resend.attempt, resend.faults + 1, "ValueError")])
    assert await due_after_it_was_sent(engine, one) < timedelta(seconds=60), "no longer than it lives"
    assert hook.sent == []


async def test_what_is_put_aside_without_a_chain_is_looked_at_in_its_time(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("a", provider=Provider))
    one, resend = await taken_meanwhile(fleet, options=RESENT_IN_A_CHAIN, expires_in=timedelta(hours=9))
    await engine.claims.set_aside([Unreadable(*resend.step, resend.attempt, resend.faults, "ValueError")])
    assert await due_after_it_was_sent(engine, one) < timedelta(seconds=60)
