"""Claims that were called lost before whoever had them could say that not a byte of them left: they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from activities.handing_over.losses import Losses, record_lost
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.ids import reference
from domain.states import Status
from infra.clock import SYSTEM_CLOCK
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.locks import Held
from infra.postgres.engine.step_outcome import StepOutcome
from tests.engine.driving import BrokenContents, HeldProvider, accounts_of, hand_over
from tests.engine.gates import Gate, gated
from tests.engine.support import LOST, OK, PERMANENT, RETRY, TENANT, Engine
from tests.engine.test_held_locks import WAYS, held, in_haste

HOLD = '{"on_unknown": "hold", "fallback_after": "PT60S"}'
RESEND = '{"on_unknown": "resend", "fallback_after": "PT60S"}'
CHAIN: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK], "strategy": "fallback"}
FAILED = ("failed", "answer_lost", True)
UNKNOWN = ("unknown", "answer_lost", True)
SENT = ("sent", None, True)
RESENT = "INSERT INTO event (notification_id, id, n, at, type) VALUES ($1, $1, 0, now(), 'resent')"


async def call_lost(engine: Engine, one: UUID) -> None:
    """Another process, which knows of nobody who has it."""
    await engine.lose(one)
    assumed = [engine.decider().lost(claim) for claim in await engine.lost(None, limit=9)]
    losses = Losses(engine.claims, engine.accounts, clock=SYSTEM_CLOCK)
    assert await record_lost(engine.outcomes, assumed, losses=losses) == 1


async def called_lost(engine: Engine, **fields: Any) -> tuple[CohortRow, UUID, Claim]:
    """In somebody's hands, who has not begun, and called lost by somebody else."""
    cohort, [one] = await engine.planned(1, **{"options": HOLD, "expires_in": timedelta(hours=9), **fields})
    [claim] = await engine.claim(cohort)
    await call_lost(engine, one)
    return cohort, one, claim


async def give_back(engine: Engine, claim: Claim, *, wait: timedelta = timedelta(0)) -> None:
    await engine.claims.give_back([engine.decider().returned(claim, wait=wait)])


async def go_on(engine: Engine, channel: Channel = Channel.EMAIL) -> list[Claim]:
    """What is due by now, in whatever cohort, claimed."""
    await engine.pool.execute("UPDATE work SET cohort = NULL, due_at = now() WHERE state = 0")
    return await engine.claim(await engine.grouped(), channel)


async def told(engine: Engine, one: UUID) -> list[str]:
    return [kind for kind in await engine.events(one) if kind in {"unknown", "given_back"}]


@pytest.mark.parametrize("by", WAYS, ids=["the notification", "its step"])
async def test_what_was_locked_while_it_was_to_go_back_is_sent(engine: Engine, by: str) -> None:
    """Caught: it could not be given back, because somebody kept it locked; and once he had let go, another process looked
    before its holder's next try, and called it lost. It ended as unknown."""
    hasty = in_haste(engine)
    cohort, [one] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    async with held(engine, one, by=by):
        with pytest.raises(Held):
            await give_back(hasty, claim)
    await call_lost(engine, one)
    assert await engine.end(one) == UNKNOWN
    await give_back(hasty, claim)
    assert (await engine.end(one))[2] is False
    assert await told(engine, one) == ["unknown", "given_back"]
    assert await engine.detail(one, "given_back") == {"attempt": 1, "channel": "email"}
    [again] = await go_on(engine)
    assert again.attempt == 2
    await engine.answer([again])
    assert await engine.end(one) == SENT


async def test_a_hand_over_that_was_held_up_brings_it_back(engine: Engine) -> None:
    """The same with a process that stands still before its statement."""
    cohort, [one] = await engine.planned(1)
    gate = Gate("n.erased_at IS NOT NULL")
    contents = BrokenContents(lambda _: asyncpg.LockNotAvailableError("locked"))
    passing = hand_over(
        engine, cohort, engine.accounts, contents=contents, claims=ClaimRepository(gated(engine.pool, gate))
    )
    await passing.account("memory-email")
    closing = asyncio.create_task(passing.close())
    await gate.reached.wait()
    await call_lost(engine, one)
    gate.open.set()
    await closing
    assert engine.providers[Channel.EMAIL].sent == []
    await engine.answer(await go_on(engine))
    assert await engine.end(one) == SENT


async def test_what_goes_back_does_not_wait_for_the_calls_beside_it(engine: Engine) -> None:
    """Caught: a claim that was not sent waited for the slowest call of its hand-over, and its own time passed."""
    cohort, [one, other] = await engine.planned(2)
    provider = HeldProvider()
    contents = BrokenContents(lambda c: asyncpg.LockNotAvailableError("x") if c.notification_id == one else None)
    passing = hand_over(engine, cohort, accounts_of(provider), contents=contents)
    await passing.account("memory-email")
    closing = asyncio.create_task(passing.close())
    await provider.until(lambda: provider.inside == 1)
    async with asyncio.timeout(10):
        while (await engine.work(one))[0]["state"] == 1:  # noqa: ASYNC110 - no event of ours
            await asyncio.sleep(0.02)
    assert not closing.done()
    await provider.let_go()
    await closing
    assert await engine.end(other) == SENT


async def test_its_resend_is_due_and_nothing_is_remembered(engine: Engine) -> None:
    """Catches: `unknown` after later failures, of what was never handed over; and a try that was none."""
    _, one, claim = await called_lost(engine, options=RESEND, **CHAIN)
    [row] = await engine.work(one)
    assert (row["failures"], row["state"]) == (1, 0)
    await give_back(engine, claim)
    [row] = await engine.work(one)
    assert (row["failures"], row["state"], row["attempt"]) == (0, 0, 1)
    assert await engine.pool.fetchval("SELECT due_at <= now() AND falls_back_at > now() FROM work")
    await engine.answer(await go_on(engine), PERMANENT)
    assert (await engine.deliveries(one))["email"] == ("failed", "content_refused")


async def test_while_its_resend_is_under_way(engine: Engine) -> None:
    cohort, one, claim = await called_lost(engine, options=RESEND)
    await engine.make_due()
    [again] = await engine.claim(cohort)
    await give_back(engine, claim)
    [row] = await engine.work(one)
    assert (row["state"], row["attempt"]) == (1, 2), "it is somebody's"
    await engine.answer([again], PERMANENT)
    assert await engine.end(one) == ("failed", "content_refused", True)


async def test_what_was_really_lost_beside_it_stays(engine: Engine) -> None:
    """Never the other way round: its second attempt was handed over."""
    cohort, one, claim = await called_lost(engine, options=RESEND)
    await engine.make_due()
    [again] = await engine.claim(cohort)
    await engine.answer([again], LOST)
    await give_back(engine, claim)
    await engine.pool.execute("UPDATE work SET expires_at = now()")
    [last] = await go_on(engine)
    await engine.flush(engine.decider(cohort).stopped(last))
    assert await engine.end(one) == UNKNOWN


async def test_an_answer_that_was_lost_opens_nothing(engine: Engine) -> None:
    _, one, claim = await called_lost(engine)
    await engine.answer([claim], LOST)
    assert await engine.end(one) == UNKNOWN
    assert await engine.work() == []
    assert await engine.pool.fetchval("SELECT lost FROM delivery") is not None


async def test_its_chain_is_as_it_was(engine: Engine) -> None:
    """It stopped there, as after any lost answer."""
    _, one, claim = await called_lost(engine, **CHAIN)
    assert await engine.end(one) == UNKNOWN
    await give_back(engine, claim)
    assert await engine.pool.fetchval("SELECT falls_back_at > now() FROM work")
    await engine.answer(await go_on(engine), PERMANENT)
    assert await engine.deliveries(one) == {"email": ("failed", "content_refused")}
    assert [row["channel"] for row in await engine.work(one)] == ["webhook"]


@pytest.mark.parametrize("options", [HOLD, RESEND])
async def test_it_is_put_off_no_longer_than_its_chain_waits(engine: Engine, options: str) -> None:
    """Found by the state machine: a receiver that is busy for longer."""
    _, _, claim = await called_lost(engine, options=options, **CHAIN)
    await give_back(engine, claim, wait=timedelta(seconds=90))
    [row] = await engine.work()
    assert row["due_at"] == row["falls_back_at"]


async def test_other_channels_are_left_alone(engine: Engine) -> None:
    cohort, one, claim = await called_lost(engine, user="u-1", channels=[Channel.EMAIL, Channel.INAPP])
    await engine.answer(await engine.claim(cohort, Channel.INAPP))
    assert (await engine.end(one))[0] == "sent"
    await give_back(engine, claim)
    await engine.answer(await go_on(engine))
    assert await engine.deliveries(one) == {"email": ("sent", None), "inapp": ("sent", None)}
    assert await engine.end(one) == SENT


async def cancel(engine: Engine, one: UUID) -> None:
    await engine.control.cancel(TENANT, notification_id=one)


async def send_anew(engine: Engine, one: UUID) -> None:
    await engine.pool.execute(RESENT, one)


async def erase(engine: Engine, one: UUID) -> None:
    """As of a person's (`infra.postgres.users.erasing`)."""
    await engine.pool.execute("UPDATE notification SET erased_at = now() WHERE id = $1", one)
    await engine.pool.execute("UPDATE delivery SET address = NULL, rest = NULL WHERE notification_id = $1", one)


@pytest.mark.parametrize("change", [cancel, send_anew, erase])
async def test_it_does_not_go_on_after_that(engine: Engine, change: Callable[[Engine, UUID], Any]) -> None:
    """Caught: sent, after a person was told that nothing would be, or had it sent anew."""
    _, one, claim = await called_lost(engine)
    await change(engine, one)
    await give_back(engine, claim)
    assert await engine.work() == []
    assert await engine.end(one) == FAILED


async def test_a_place_of_a_chain_that_went_on_has_failed(engine: Engine) -> None:
    """Each of its attempts was called lost, until none was left and the next channel had it."""
    held_by = list[Claim]()
    cohort, [one] = await engine.planned(1, options=RESEND, expires_in=timedelta(hours=9), **CHAIN)
    while claims := await engine.claim(cohort):
        held_by += claims
        await call_lost(engine, one)
        await engine.make_due()
    await engine.answer(await engine.claim(cohort, Channel.WEBHOOK))
    assert await engine.deliveries(one) == {"email": UNKNOWN[:2], "webhook": ("sent", None)}
    for claim in held_by:
        assert (await engine.deliveries(one))["email"] == UNKNOWN[:2]
        await give_back(engine, claim)
    assert await engine.deliveries(one) == {"email": FAILED[:2], "webhook": ("sent", None)}
    assert await engine.end(one) == SENT


async def test_it_does_not_go_on_where_its_chain_has_arrived(engine: Engine) -> None:
    _, one, claim = await called_lost(engine, **CHAIN)
    await engine.pool.execute(
        "INSERT INTO delivery (notification_id, n, tenant, channel, account, status) "
        "VALUES ($1, 2, 'acme', 'webhook', 'memory-webhook', 'delivered')", one,
    )  # fmt: skip
    await give_back(engine, claim)
    assert await engine.work() == []
    assert (await engine.deliveries(one))["email"] == FAILED[:2]


async def test_cancelled_before_it_was_called_lost_it_is_cancelled(engine: Engine) -> None:
    """It was in flight when that was asked for; nothing of it is there."""
    cohort, [one] = await engine.planned(1, options=HOLD)
    [claim] = await engine.claim(cohort)
    await cancel(engine, one)
    await call_lost(engine, one)
    assert await engine.end(one) == UNKNOWN
    await give_back(engine, claim)
    [again] = await go_on(engine)
    await engine.flush(engine.decider(cohort).stopped(again))
    assert await engine.end(one) == ("cancelled", "cancelled_by_request", True)


@pytest.mark.parametrize("options", [HOLD, RESEND])
async def test_given_back_again_it_is_given_back_once(engine: Engine, options: str) -> None:
    """A reply that was lost."""
    _, one, claim = await called_lost(engine, options=options)
    for _ in range(2):
        await give_back(engine, claim)
    assert await told(engine, one) == ["unknown", "given_back"]
    [row] = await engine.work(one)
    assert (row["state"], row["failures"]) == (0, 0)
    [again] = await go_on(engine)
    await give_back(engine, claim)
    await engine.answer([again])
    assert await engine.end(one) == SENT


def broken(engine: Engine, claim: Claim) -> StepOutcome:
    return engine.decider().broken(claim, "KeyError")


def unserved(engine: Engine, claim: Claim) -> StepOutcome:
    return Engine.decider(Engine(engine.pool, {}, Accounts([]))).unserved(claim)


def moved(engine: Engine, claim: Claim) -> StepOutcome:
    spare = Account("spare", MemoryProvider(), Slots(1))
    return Engine.decider(Engine(engine.pool, {}, Accounts([spare]))).unserved(claim)


@pytest.mark.parametrize("end", [broken, unserved, moved])
@pytest.mark.parametrize("options", [HOLD, RESEND])
async def test_whatever_else_it_came_to_without_a_call(
    engine: Engine, end: Callable[[Engine, Claim], StepOutcome], options: str
) -> None:
    """It was not given back but ended in its holder's hands, without a byte: who claims it next finds the same."""
    _, one, claim = await called_lost(engine, options=options, **CHAIN)
    await engine.flush(end(engine, claim))
    [row] = await engine.work(one)
    assert (row["state"], row["channel"]) == (0, "email")
    [again] = await go_on(engine)
    assert again.lost == ()
    await engine.flush(broken(engine, again))
    assert (await engine.deliveries(one))["email"] == ("failed", "template_broken")
    assert [row["channel"] for row in await engine.work(one)] == ["webhook"]


async def test_a_late_answer_is_the_truth_as_ever(engine: Engine) -> None:
    """What a step leaves behind for the case that it had not begun changes nothing for one that had."""
    for answer, end in ((OK, SENT), (PERMANENT, ("failed", "content_refused", True)), (RETRY, None)):
        _, one, claim = await called_lost(engine, **CHAIN)
        await engine.answer([claim], answer)
        assert await engine.work(one) == []
        assert (await engine.end(one))[0] == ("failed" if end is None else end[0])


async def test_a_receipt_ends_it_as_ever(engine: Engine) -> None:
    """Catches: what is left for one that had not begun taken for places of a chain. It would go on, to nowhere."""
    mail = Account("memory-email", MemoryProvider(channel=Channel.EMAIL, receipts=True), Slots(2))
    fleet = Engine(engine.pool, engine.providers, Accounts([mail]))
    _, one, _ = await called_lost(fleet)
    await fleet.receipts.take("memory-email", [Receipt(None, Status.FAILED, reference=reference(one, 1, attempt=1))])
    assert await fleet.end(one) == ("failed", "undelivered", True)
    assert "resumed" not in await fleet.events(one)


async def record(engine: Engine) -> tuple[Any, ...]:
    return tuple(await engine.pool.fetchrow("SELECT class, code, attempts FROM delivery") or ())


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("options", [HOLD, RESEND])
async def test_its_record_says_that_no_attempt_was_made(engine: Engine, options: str, *, back: bool) -> None:
    """Caught: it still had the class of a loss, by which nothing could be edited or handed on any more."""
    _, _, claim = await called_lost(engine, options=options)
    assert await record(engine) == ("UNKNOWN", "no_outcome", 1)
    await (give_back(engine, claim) if back else engine.flush(broken(engine, claim)))
    assert await record(engine) == (None, None, 0)


async def test_its_record_keeps_the_attempt_before_it(engine: Engine) -> None:
    cohort, [one] = await engine.planned(1, options=RESEND, expires_in=timedelta(hours=9))
    await engine.answer(await engine.claim(cohort), RETRY)
    await engine.make_due()
    [claim] = await engine.claim(cohort)
    await call_lost(engine, one)
    await give_back(engine, claim)
    assert await record(engine) == ("RETRY", None, 1)


@pytest.mark.parametrize("turned", [False, True])
async def test_its_record_says_what_is_left_of_two(engine: Engine, *, turned: bool) -> None:
    """Catches: the first one's loss forgotten with the second's, or kept when both have gone back."""
    _, one, first = await called_lost(engine, options=RESEND)
    [second] = await go_on(engine)
    await call_lost(engine, one)
    back = [second, first] if turned else [first, second]
    await give_back(engine, back[0])
    assert (await record(engine))[0] == "UNKNOWN"
    await give_back(engine, back[1])
    assert (await record(engine))[0] in {None, "RETRY"}


@pytest.mark.parametrize("turned", [False, True])
async def test_of_two_attempts_that_go_back_together_none_is_forgotten(engine: Engine, *, turned: bool) -> None:
    """Caught: that the second one went back was taken for the first one's going back, too, which stayed lost."""
    _, one, first = await called_lost(engine, options=RESEND)
    [second] = await go_on(engine)
    returned = [engine.decider().returned(claim) for claim in (first, second)]
    await engine.claims.give_back(returned[::-1] if turned else returned)
    assert await engine.pool.fetchval("SELECT lost FROM delivery") is None
    assert await told(engine, one) == ["unknown", "given_back"]
    [again] = await go_on(engine)
    assert again.lost == ()


@pytest.mark.parametrize("options", [HOLD, RESEND])
async def test_beside_a_real_loss_its_chain_goes_on_only_where_it_may_come_twice(engine: Engine, options: str) -> None:
    """Caught: the time of its place in the chain was back, though another attempt may have arrived all the same: the first
    one was lost over an account that recognises it, the second was only called lost."""
    knowing = Engine.over(engine.pool, idempotent=True)
    cohort, [one] = await knowing.planned(1, options=options, expires_in=timedelta(hours=9), **CHAIN)
    await knowing.answer(await knowing.claim(cohort), LOST)
    [second] = await go_on(knowing)
    await call_lost(knowing, one)
    await give_back(knowing, second)
    assert await engine.pool.fetchval("SELECT falls_back_at IS NOT NULL FROM work") == (options == RESEND)
    [again] = await go_on(knowing)
    assert [attempt.attempt for attempt in again.lost] == [1]
    assert (await engine.work(one))[0]["channel"] == "email"
