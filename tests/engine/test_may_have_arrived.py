"""A step of which an attempt may have arrived: whatever stops it, nobody says that nothing was taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from api.recalls import RecallService
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.cancelling import CancelResult
from domain.channels import Channel
from domain.ids import reference
from domain.lanes import Lane
from domain.results import SendResult
from domain.states import Status
from domain.unreadable import ASIDE_WAITS
from infra.postgres.engine.cancelling import CancelRepository
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.lost_attempts import may_have_arrived
from infra.postgres.engine.recalling import RecallRepository
from infra.postgres.engine.setting_aside import Unreadable
from tests.engine.support import LOST, OK, PERMANENT, RECIPIENT, RETRY, TENANT, Engine

RESEND = '{"on_unknown": "resend"}'
HOLD = '{"on_unknown": "hold"}'
CHAIN: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK], "strategy": "fallback"}
LONG = timedelta(hours=9)
UNKNOWN = ("unknown", "answer_lost", True)
SUPPRESS = "INSERT INTO suppression (tenant, channel, address, reason) VALUES ('acme', 'email', 'a@example.com', 'x')"
EXPIRE = "UPDATE work SET expires_at = now() - interval '1 s'"


async def lost_once(engine: Engine, *, channel: Channel = Channel.EMAIL, **fields: Any) -> tuple[CohortRow, UUID]:
    """Its first attempt may have arrived, and its resend is due."""
    cohort, [one] = await engine.planned(1, **{"options": RESEND, "expires_in": LONG, **fields})
    await engine.answer(await engine.claim(cohort, channel), LOST)
    await engine.make_due()
    return cohort, one


async def cancel(engine: Engine, one: UUID) -> Any:
    return await CancelRepository(engine.pool).cancel(TENANT, notification_id=one)


async def refused(engine: Engine, cohort: CohortRow, result: SendResult = RETRY) -> None:
    """Every attempt from now on."""
    for _ in range(30):
        claims = await engine.claim(cohort)
        if not claims:
            return
        await engine.answer(claims, result)
        await engine.make_due()
    raise AssertionError("it does not come to an end")


async def remembered(engine: Engine, one: UUID) -> bool:
    async with engine.pool.acquire() as connection:
        return await may_have_arrived(connection, [one]) == {one}


async def test_cancelling_what_waits_for_its_resend(engine: Engine) -> None:
    """Caught: `cancelled`, "nothing was handed over, and nothing will be", of what the recipient had. A repeat was sent to
    him once more."""
    _, one = await lost_once(engine)
    for _ in range(2):
        answer = await cancel(engine, one)
        assert (answer.result, answer.status) == (CancelResult.PARTLY_CANCELLED, "unknown")
        assert (answer.cancelled, answer.in_flight, answer.may_have_arrived) == ((), (), ("email",))
    assert await engine.end(one) == UNKNOWN
    assert await engine.work() == []
    told = await engine.detail(one, "cancelled")
    assert (told["answer"], told["channels"], told["may_have_arrived"]) == ("partly_cancelled", [], ["email"])
    assert (await engine.events(one)).count("cancelled") == 1


async def test_a_webhook_that_timed_out_once_needs_nothing_asked_for(knowing: Engine) -> None:
    """It is sent again of itself, because its receiver recognises it."""
    _, one = await lost_once(knowing, options=None)
    assert (await cancel(knowing, one)).may_have_arrived == ("email",)
    assert await knowing.end(one) == UNKNOWN


@pytest.fixture
def knowing(engine: Engine) -> Engine:
    """Its providers recognise a repeated delivery id."""
    return Engine.over(engine.pool, idempotent=True)


@pytest.mark.parametrize(
    ("change", "event", "reason"),
    [
        (EXPIRE, "expired", "expired_before_hand_over"),
        (SUPPRESS, "suppressed", "address_suppressed"),
        ("UPDATE notification SET cancelled_at = now()", "suppressed", "cancelled_by_request"),
    ],
)
async def test_what_stops_its_resend_is_told_and_is_not_its_end(
    engine: Engine, change: str, event: str, reason: str
) -> None:
    """Caught: `expired` or `suppressed`, as if nothing had been handed over."""
    cohort, one = await lost_once(engine)
    await engine.pool.execute(change)
    [again] = await engine.claim(cohort)
    await engine.flush(engine.decider(cohort).stopped(again))
    assert await engine.end(one) == UNKNOWN
    assert (await engine.detail(one, event))["reason"] == reason
    assert await engine.detail(one, "unknown") == {"attempt": 1, "channel": "email", "then": "hold", "because": reason}


@pytest.mark.parametrize(("answer", "because"), [(RETRY, "retries_exhausted"), (PERMANENT, "content_refused")])
async def test_later_failures_say_nothing_of_the_lost_one(engine: Engine, answer: SendResult, because: str) -> None:
    """Caught: `failed`, which `/retry` sends once more without a word."""
    cohort, one = await lost_once(engine)
    await refused(engine, cohort, answer)
    assert await engine.end(one) == UNKNOWN
    assert (await engine.detail(one, "attempt"))["status"] == "unknown"
    assert (await engine.detail(one, "unknown"))["because"] == because


async def test_cancelled_while_its_resend_is_in_flight(engine: Engine) -> None:
    cohort, one = await lost_once(engine)
    claims = await engine.claim(cohort)
    assert (await cancel(engine, one)).in_flight == ("email",)
    await engine.answer(claims, RETRY)
    assert await engine.end(one) == UNKNOWN


@pytest.mark.parametrize(
    ("answer", "end"), [(RETRY, ("cancelled", "cancelled_by_request", True)), (OK, ("sent", None, True))]
)
async def test_its_own_answer_says_what_is_true_however_late(engine: Engine, answer: SendResult, end: Any) -> None:
    cohort, [one] = await engine.planned(1, options=RESEND)
    claims = await engine.claim(cohort)
    await engine.lose(one)
    await engine.flush(*[engine.decider(cohort).lost(claim) for claim in await engine.lost(None, limit=9)])
    await cancel(engine, one)
    assert await engine.end(one) == UNKNOWN
    await engine.answer(claims, answer)
    assert await engine.end(one) == end
    assert not await remembered(engine, one)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("turned", [True, False])
async def test_of_two_that_were_lost_both_must_have_failed(engine: Engine, together: Any, turned: Any) -> None:
    """Caught: the answer to the last of them was taken for that of all."""
    cohort, [one] = await engine.planned(1, options=RESEND, expires_in=LONG)
    held: list[Claim] = []
    for _ in range(2):
        held += await engine.claim(cohort)
        await engine.lose(one)
        await engine.flush(*[engine.decider(cohort).lost(claim) for claim in await engine.lost(None, limit=9)])
        await engine.make_due()
    await cancel(engine, one)
    late = [engine.answered(claim, PERMANENT) for claim in (reversed(held) if turned else held)]
    if together:
        await engine.flush(*late)
    else:
        await engine.flush(late[0])
        assert await engine.end(one) == UNKNOWN
        await engine.flush(late[1])
    assert await engine.end(one) == ("failed", "content_refused", True)


@pytest.mark.parametrize("answer", [PERMANENT, RECIPIENT])
async def test_who_recognises_it_and_refuses_it_never_took_it(knowing: Engine, answer: SendResult) -> None:
    cohort, one = await lost_once(knowing)
    await refused(knowing, cohort, answer)
    assert (await knowing.end(one))[0] == "failed"
    assert not await remembered(knowing, one)


async def test_of_a_message_that_was_not_looked_at_nothing_is_known(knowing: Engine) -> None:
    cohort, one = await lost_once(knowing, lane=Lane.HIGH)
    await refused(knowing, cohort)
    assert await knowing.end(one) == UNKNOWN


@pytest.mark.parametrize("options", [HOLD, RESEND])
async def test_its_chain_goes_on_only_where_it_may_come_twice(knowing: Engine, options: str) -> None:
    """Caught: with `hold` the next channel sent it as well, after the failures that came later."""
    cohort, one = await lost_once(knowing, options=options, **CHAIN)
    await refused(knowing, cohort)
    goes_on = options == RESEND
    assert (await knowing.deliveries(one))["email"] == UNKNOWN[:2]
    assert [row["channel"] for row in await knowing.work(one)] == ["webhook"] * goes_on
    assert ("fallback" in await knowing.events(one)) is goes_on
    assert (await knowing.detail(one, "unknown"))["then"] == ("fallback" if goes_on else "hold")


async def test_what_arrived_over_another_channel_does_not_say_that_it_did_not_over_this(engine: Engine) -> None:
    """`all` of the other places of a chain that are still open when a receipt says that one has arrived."""
    cohort, one = await lost_once(engine, **CHAIN)
    await engine.pool.execute(
        "INSERT INTO delivery (notification_id, n, tenant, channel, account, status) "
        "VALUES ($1, 2, 'acme', 'webhook', 'memory-webhook', 'sent')", one,
    )  # fmt: skip
    name = "p-2"
    await engine.pool.execute(
        "INSERT INTO receipt_inbox (account, provider_id, notification_id, n, attempt, status, until) "
        "VALUES ('memory-webhook', $2, $1, 2, 1, 'sent', now() + interval '1 day')", one, name,
    )  # fmt: skip
    await engine.receipts.take("memory-webhook", [Receipt(name, Status.DELIVERED)])
    assert await engine.claim(cohort) == []
    assert await engine.deliveries(one) == {"email": UNKNOWN[:2], "webhook": ("delivered", None)}
    assert (await engine.end(one))[0] == "delivered"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (EXPIRE, "expired_before_hand_over"),
        ("UPDATE notification SET cancelled_at = now()", "cancelled_by_request"),
        (f"UPDATE work SET faults = {len(ASIDE_WAITS)}", "quarantined"),
    ],
)
async def test_what_no_version_can_read_any_more(engine: Engine, change: str, told: str) -> None:
    cohort, one = await lost_once(engine)
    await engine.pool.execute(change)
    [again] = await engine.claim(cohort)
    faults = (await engine.work(one))[0]["faults"]
    await engine.claims.set_aside([Unreadable(one, 1, again.attempt, faults, "ValueError")])
    assert await engine.end(one) == UNKNOWN
    assert (await engine.detail(one, "unknown"))["because"] == told


async def test_what_comes_back_unsent_and_goes_elsewhere_is_remembered(engine: Engine) -> None:
    """A claim that went back, another account, a failure: none of it says anything of the first."""
    cohort, one = await lost_once(engine)
    [claim] = await engine.claim(cohort)
    await engine.claims.give_back([Returned(one, 1, claim.attempt)])
    spare = Account("spare", MemoryProvider(channel=Channel.EMAIL), Slots(1))
    elsewhere = replace(engine, accounts=Accounts([*engine.accounts, spare]))
    await engine.flush(*[elsewhere.answered(c, RETRY) for c in await engine.claim(cohort)])
    [row] = await engine.work(one)
    assert row["account"] == "spare"
    [claim] = await engine.claim_over(cohort.id, "spare")
    await engine.flush(elsewhere.decider(cohort).broken(claim, "KeyError"))
    assert await engine.end(one) == UNKNOWN


async def test_a_flush_that_is_repeated_changes_nothing(engine: Engine) -> None:
    cohort, one = await lost_once(engine)
    [claim] = await engine.claim(cohort)
    outcome = engine.answered(claim, PERMANENT)
    await engine.flush(outcome)
    events = await engine.events(one)
    await engine.flush(outcome)
    assert await engine.end(one) == UNKNOWN
    assert await engine.events(one) == events


@pytest.mark.parametrize("turned", [True, False])
async def test_by_its_receipts_it_has_failed_when_all_that_may_have_arrived_did(engine: Engine, turned: Any) -> None:
    """Caught: the second was reported to have failed, and the step was `failed`, although the first may be there."""
    fleet = reporting(engine)
    cohort, one = await lost_once(fleet)
    await fleet.answer(await fleet.claim(cohort), replace(OK, provider_id=None))
    assert await fleet.end(one) == ("sent", None, False)
    first, second = (Receipt(None, Status.FAILED, reference=reference(one, 1, attempt=n)) for n in (1, 2))
    if turned:
        first, second = second, first
    await fleet.receipts.take("memory-email", [second])
    assert await fleet.end(one) == (("sent", None, False) if turned else UNKNOWN)
    await fleet.receipts.take("memory-email", [first])
    assert await fleet.end(one) == ("failed", "undelivered", True)
    assert not await remembered(fleet, one)


@pytest.mark.parametrize("options", [HOLD, RESEND])
async def test_a_receipt_has_its_chain_go_on_only_where_it_may_come_twice(engine: Engine, options: str) -> None:
    fleet = reporting(engine)
    cohort, one = await lost_once(fleet, **CHAIN)
    await fleet.answer(await fleet.claim(cohort), replace(OK, provider_id=None))
    await engine.pool.execute("UPDATE notification SET options = $1", options)
    report = Receipt(None, Status.FAILED, reference=reference(one, 1, attempt=2))
    await fleet.receipts.take("memory-email", [report])
    assert ("resumed" in await fleet.events(one)) is (options == RESEND)
    assert (await fleet.deliveries(one))["email"][0] == ("retrying" if options == RESEND else "unknown")


def reporting(engine: Engine) -> Engine:
    """E-mails are reported on."""
    mail = MemoryProvider(channel=Channel.EMAIL, receipts=True)
    others = [account for account in engine.accounts if account.channel is not Channel.EMAIL]
    return replace(engine, accounts=Accounts([*others, Account("memory-email", mail, Slots(8))]))


@pytest.mark.parametrize(("channel", "told"), [(Channel.EMAIL, "cannot_recall"), (Channel.INAPP, "recalled")])
async def test_a_recall_asks_for_what_may_have_arrived(engine: Engine, channel: Channel, told: str) -> None:
    """Caught: it was said to have been stopped before it was handed over, and stayed where it was."""
    _, one = await lost_once(engine, channel=channel, user="u-1", channels=[channel])
    inbox = MemoryProvider(channel=Channel.INAPP, recall=True)
    done = await RecallService(RecallRepository(engine.pool), {Channel.INAPP: inbox}).recall(TENANT, notification_id=one)
    assert [result for _, result in done.channels] == [told]
    assert (await engine.end(one))[0] == ("unknown" if channel is Channel.EMAIL else "cancelled")


async def test_what_was_refused_or_never_tried_may_not_have_arrived(engine: Engine) -> None:
    cohort, [one, two] = await engine.planned(2, expires_in=LONG)
    [claim] = await engine.claim(cohort, limit=1)
    await engine.answer([claim], RETRY)
    assert not await remembered(engine, one)
    assert not await remembered(engine, two)
    for other in (one, two):
        assert (await cancel(engine, other)).result is CancelResult.CANCELLED
        assert (await engine.end(other))[0] == "cancelled"


async def test_what_was_recorded_before_there_was_a_memory_ends_as_it_did(engine: Engine) -> None:
    """Rows of the version before have none."""
    _, one = await lost_once(engine)
    await engine.pool.execute("UPDATE delivery SET lost = NULL")
    assert (await cancel(engine, one)).result is CancelResult.CANCELLED
