"""What may have arrived and must not come twice: it goes over no account but the one that knows it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from activities.accounts.account import Account, Accounts, Stop
from activities.accounts.slots import Slots
from channels.base import Capabilities
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.health import FIRST_OPEN_S, IN_A_ROW
from domain.ids import reference
from domain.lanes import Lane
from domain.results import ResultClass, SendResult
from domain.states import Status
from tests.engine.fleet import Fleet, account, reasons
from tests.engine.support import LOST, OK, RETRY, Engine

HOLD = '{"on_unknown": "hold"}'
RESEND = '{"on_unknown": "resend"}'
CHAIN: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK], "strategy": "fallback"}
WITHIN = timedelta(seconds=20)
RATE = SendResult(ResultClass.RATE, code="429", retry_after=timedelta(minutes=5))
CONFIG = SendResult(ResultClass.CONFIG, code="535")
UNKNOWN = ("unknown", "answer_lost", True)


class Knowing(MemoryProvider):
    """Recognises a repeated delivery id."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, idempotent=True)


class Reporting(Knowing):
    """And reports delivery later."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, receipts=True)


knowing = partial(account, provider=Knowing)
reporting = partial(account, provider=Reporting, receipt_within=WITHIN)
other_way = pytest.mark.parametrize("policy", [None, HOLD, RESEND])


def stays(policy: str | None) -> bool:
    return policy != RESEND


async def lost_once(fleet: Fleet, policy: str | None = HOLD, **fields: Any) -> UUID:
    """Handed over to `a`, whose answer was lost; its resend waits there."""
    [one] = await fleet.send(options=policy, expires_in=timedelta(hours=9), **fields)
    await fleet.drive()
    assert fleet.sent()["a"] == 1
    [row] = await fleet.engine.work(one)
    assert (row["account"], row["attempt"]) == ("a", 1)
    return one


async def later(fleet: Fleet) -> None:
    """Circuits and throttles have passed; what has left its cohort meanwhile is in another one."""
    fleet.now_s += 600
    await fleet.engine.make_due()
    fleet.cohort = await fleet.engine.cohorts.group(Lane.MEDIUM) or fleet.cohort
    await fleet.drive()


def trip(fleet: Fleet, name: str) -> None:
    found = fleet.accounts.get(name)
    assert found is not None
    for _ in range(IN_A_ROW):
        found.health.note(ResultClass.RETRY, now_s=fleet.now_s, took_s=0.1)


def throttle(fleet: Fleet, name: str) -> None:
    found = fleet.accounts.get(name)
    assert found is not None
    found.health.throttle.hold(FIRST_OPEN_S, now_s=fleet.now_s, took_s=0.0)


def stop(fleet: Fleet, name: str, reason: Stop | None) -> None:
    fleet.accounts.replace([replace(a, stopped=reason) if a.name == name else a for a in fleet.accounts])


async def accounts_of_work(engine: Engine) -> list[str]:
    return [row["account"] for row in await engine.work()]


@other_way
@pytest.mark.parametrize("answer", [RETRY, RATE, CONFIG])
async def test_a_failure_of_its_resend_does_not_move_it(engine: Engine, answer: SendResult, policy: str | None) -> None:
    """Caught: the other account sent it as well, to whom it was a new message."""
    fleet = Fleet.of(engine, knowing("a", LOST, answer), knowing("b", order=1))
    one = await lost_once(fleet, policy)
    await fleet.drive_what_waits()
    await later(fleet)
    assert fleet.sent() == ({"a": 3, "b": 0} if stays(policy) else {"a": 2, "b": 1})
    assert (await engine.end(one))[0] == "sent"
    assert await reasons(engine, one) == ([] if stays(policy) else ["failed"])


@other_way
@pytest.mark.parametrize("hinder", [trip, throttle])
async def test_an_account_that_takes_nothing_is_waited_for(engine: Engine, hinder: Any, policy: str | None) -> None:
    """Caught: what was due over an open circuit went round it, whatever had become of it before."""
    fleet = Fleet.of(engine, knowing("a", LOST), knowing("b", order=1))
    one = await lost_once(fleet, policy)
    hinder(fleet, "a")
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1 - stays(policy)}
    if stays(policy):
        [row] = await engine.work(one)
        assert (row["account"], row["state"], row["attempt"]) == ("a", 0, 1)
        assert await engine.pool.fetchval("SELECT due_at > now() FROM work"), "it is looked at without a pause"
    await later(fleet)
    assert fleet.sent() == {"a": 1 + stays(policy), "b": 1 - stays(policy)}
    assert (await engine.end(one))[0] == "sent"


async def test_others_go_round_all_the_same(engine: Engine) -> None:
    """Catches: a rule that holds a whole tenant, or all that was tried before."""
    fleet = Fleet.of(engine, knowing("a", LOST, RETRY), knowing("b", RETRY, RETRY, order=1))
    [stuck, tried, _] = await fleet.send(3, options=HOLD)
    await fleet.engine.plan(fleet.cohort)  # type: ignore[arg-type]
    await engine.pool.execute("UPDATE work SET account = 'a'")
    claims = {c.notification_id: c for c in await engine.claim_over(fleet.cohort.id, "a")}  # type: ignore[union-attr]
    one_account = replace(engine, accounts=Accounts([knowing("a")]))
    await engine.flush(one_account.answered(claims.pop(stuck), LOST), one_account.answered(claims.pop(tried), RETRY))
    [fresh] = claims.values()
    await engine.claims.give_back([one_account.decider().returned(fresh)])
    trip(fleet, "a")
    await fleet.drive_what_waits()
    assert await accounts_of_work(engine) == ["a", "b", "b"]
    assert fleet.sent() == {"a": 0, "b": 2}


@other_way
async def test_a_paused_account_is_waited_for(engine: Engine, policy: str | None) -> None:
    fleet = Fleet.of(engine, knowing("a", LOST), knowing("b", order=1))
    one = await lost_once(fleet, policy)
    stop(fleet, "a", Stop.PAUSED)
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1 - stays(policy)}
    stop(fleet, "a", None)
    await later(fleet)
    assert fleet.sent() == {"a": 1 + stays(policy), "b": 1 - stays(policy)}
    assert (await engine.end(one))[0] == "sent"


@other_way
async def test_an_account_that_is_gone_leaves_it_unknown(engine: Engine, policy: str | None) -> None:
    fleet = Fleet.of(engine, knowing("a", LOST), knowing("b", order=1))
    one = await lost_once(fleet, policy)
    fleet.accounts.replace([a for a in fleet.accounts if a.name == "b"])
    await fleet.drive_what_waits()
    assert fleet.sent() == {"b": 1 - stays(policy)}
    assert await engine.end(one) == (UNKNOWN if stays(policy) else ("sent", None, True))


async def test_what_a_version_before_had_moved_is_not_sent(engine: Engine) -> None:
    """Its row stands over an account that would not recognise it, and says so to nobody but its record."""
    fleet = Fleet.of(engine, knowing("a", LOST), knowing("b", order=1))
    one = await lost_once(fleet)
    await engine.pool.execute("UPDATE work SET account = 'b'")
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 0}
    assert await engine.end(one) == UNKNOWN
    assert await engine.detail(one, "unknown") == {"attempt": 1, "channel": "email", "then": "hold"}


@pytest.mark.parametrize("answer", [RETRY, RATE, CONFIG])
async def test_its_chain_stops_with_it(engine: Engine, answer: SendResult) -> None:
    """Whatever its resend is answered, until its time is over, the next channel does not have it."""
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    fleet = Fleet.of(engine, knowing("a", LOST, *[answer] * 400), knowing("b", order=1), Account("hook", hook, Slots(4)))
    fallback = '{"on_unknown": "hold", "fallback_after": "PT60S"}'
    one = await lost_once(fleet, fallback, **CHAIN)
    for _ in range(40):
        await later(fleet)
        if not await engine.work(one):
            break
        await engine.pool.execute("UPDATE work SET expires_at = expires_at - interval '15 minutes'")
    assert (fleet.sent()["b"], fleet.sent()["hook"]) == (0, 0)
    assert await engine.deliveries(one) == {"email": UNKNOWN[:2]}


async def test_once_it_was_taken_a_missing_receipt_counts_as_ever(engine: Engine) -> None:
    """Who recognises it has said OK: nothing is lost any more. Catches: a rule that outlives its reason."""
    fleet = Fleet.of(engine, reporting("a", LOST), reporting("b", order=1))
    one = await lost_once(fleet)
    await fleet.drive_what_waits()
    [row] = await engine.work(one)
    assert (row["account"], row["awaiting"], fleet.sent()) == ("a", True, {"a": 2, "b": 0})
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 2, "b": 1}
    assert await reasons(engine, one) == ["receipt_overdue"]


@pytest.mark.parametrize("status", [None, Status.FAILED])
async def test_a_look_moves_nothing_that_may_be_there_twice(engine: Engine, status: Status | None) -> None:
    """A receipt that is missing, or says of a later attempt that it failed, says nothing of the lost one."""
    fleet = Fleet.of(engine, reporting("a", LOST, OK), reporting("b", order=1))
    one = await lost_once(fleet)
    await fleet.drive_what_waits()
    await engine.pool.execute("""UPDATE delivery SET lost = '[[1, "elsewhere", false]]'""")
    if status is not None:
        await engine.receipts.take("a", [Receipt(None, status, reference=reference(one, 1, attempt=2))])
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 2, "b": 0}
    assert await reasons(engine, one) == []
