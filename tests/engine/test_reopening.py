"""What arrived in part goes again over the channels that failed, and over nothing else, whatever happens beside it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.base import Message
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.errors import HandedOff
from domain.lanes import Lane
from domain.partials import AS_A_RULE, Refusal, Wanted
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.accept.accepting import Key
from infra.postgres.engine.edits import Edit, EditRepository
from infra.postgres.engine.recalling import RecallRepository
from infra.postgres.lists.partials import Judged, PartialRepository
from tests.engine.fleet import Fleet, Provider, account
from tests.engine.reported_ways import report
from tests.engine.support import LOST, OK, PERMANENT, RECIPIENT, TENANT, Engine
from tests.engine.test_resuming import driven

BOTH: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK]}
UNKNOWN = Wanted(frozenset({Status.UNKNOWN}))


async def partial(
    engine: Engine, *hook: SendResult, mail: tuple[SendResult, ...] = (), idempotent: bool = False, **fields: Any
) -> tuple[Fleet, UUID]:
    """The mail arrived, and the webhook failed with the first of these answers; the others are for later. What is OK has
    the delivery's own name, as a webhook's receiver has it."""
    answers = deque(hook or (PERMANENT,))

    def answer(message: Message) -> SendResult:
        scripted = answers.popleft() if answers else OK
        return replace(scripted, provider_id=message.delivery_id) if scripted.result is ResultClass.OK else scripted

    receiver = Provider(channel=Channel.WEBHOOK, answer=answer, idempotent=idempotent)
    sender = account("a", *mail)
    fleet = Fleet.of(engine, sender, Account("hook", receiver, Slots(4)))
    [one] = await fleet.send(**BOTH | fields)
    await fleet.drive()
    assert await engine.work(one) == []
    return fleet, one


async def again(engine: Engine, *ids: UUID, wanted: Wanted = Wanted(), tenant: str = TENANT) -> Judged:  # noqa: B008
    done = await PartialRepository(engine.pool).reopen(tenant, ids, wanted=wanted, key=None, answer=lambda _: b"")
    assert done is not None
    return done


async def refusal(engine: Engine, one: UUID, wanted: Wanted = Wanted()) -> Refusal:  # noqa: B008
    """Why it does not go again: a dry run and a real one say the same, and nothing is done."""
    said = await PartialRepository(engine.pool).judged(TENANT, [one], wanted=wanted)
    before = await engine.events(one)
    assert await again(engine, one, wanted=wanted) == said
    assert await engine.events(one) == before
    return said.refused[one]


async def test_what_failed_goes_again_and_makes_it_whole(engine: Engine) -> None:
    fleet, one = await partial(engine)
    assert (await engine.notification(one))["partial"] is True
    judged = await again(engine, one)
    assert [step.channel for step in judged.again[one]] == ["webhook"]
    assert judged.lanes == {Lane.MEDIUM}
    row = await engine.notification(one)
    assert (row["partial"], row["final"], row["finished_at"]) == (False, False, None)
    assert await engine.deliveries(one) == {"email": ("sent", None), "webhook": ("retrying", None)}
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 2}
    assert await engine.deliveries(one) == {"email": ("sent", None), "webhook": ("sent", None)}
    row = await engine.notification(one)
    assert (row["status"], row["partial"], row["final"]) == ("sent", False, False), "a receipt of the hook may come"
    assert await engine.detail(one, "retried") == {"channel": "webhook", "was": "failed", "reason": "content_refused"}
    await report(engine, one, Status.DELIVERED, over="hook", n=2)
    assert await engine.end(one) == ("delivered", None, True)


async def test_what_fails_again_is_partial_again_and_can_be_tried_again(engine: Engine) -> None:
    fleet, one = await partial(engine, PERMANENT, RECIPIENT)
    await again(engine, one)
    await driven(fleet)
    assert (await engine.notification(one))["partial"] is True
    assert (await engine.deliveries(one))["webhook"] == ("failed", "recipient_refused")
    assert await refusal(engine, one) is Refusal.ADDRESS_SUPPRESSED
    await engine.pool.execute("DELETE FROM suppression")
    await again(engine, one)
    await driven(fleet)
    assert (await engine.notification(one))["partial"] is False
    attempts = "SELECT (detail->>'attempt')::int AS n FROM event WHERE notification_id = $1 AND n = 2 AND type = 'attempt'"
    numbers = [row["n"] for row in await engine.pool.fetch(f"{attempts} ORDER BY id", one)]
    assert len(numbers) == len(set(numbers)) == 3, "no claim's number is used twice"


async def test_of_many_who_ask_at_once_one_does_it(engine: Engine) -> None:
    fleet, one = await partial(engine)
    judged = await asyncio.gather(*(again(engine, one) for _ in range(6)))
    assert sum(one in each.again for each in judged) == 1
    assert {each.refused.get(one) for each in judged} == {None, Refusal.STILL_OPEN}
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 2}


async def test_a_receipt_that_it_arrived_after_all_takes_the_new_try_back(engine: Engine) -> None:
    """The webhook was taken, and reported failed; after the new try was asked for, its receiver says that it is there."""
    fleet, one = await partial(engine, OK)
    await report(engine, one, Status.FAILED, over="hook", n=2)
    assert (await engine.notification(one))["partial"] is True
    await again(engine, one)
    await report(engine, one, Status.DELIVERED, over="hook", n=2)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 1}
    row = await engine.notification(one)
    assert (row["status"], row["partial"], row["final"]) == ("delivered", False, True)


async def test_a_failure_that_was_reported_before_says_nothing_of_the_new_try(engine: Engine) -> None:
    """Catches: a receiver that knows the delivery by one name, whose old failure is taken for what became of the new try,
    of which nothing is known."""
    fleet, one = await partial(engine, OK, LOST, idempotent=True)
    await report(engine, one, Status.FAILED, over="hook", n=2)
    await again(engine, one)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 2}
    answer = await engine.control.cancel(TENANT, notification_id=one)
    assert answer.may_have_arrived == ("webhook",)
    assert (await engine.deliveries(one))["webhook"] == ("unknown", "answer_lost")
    await report(engine, one, Status.DELIVERED, over="hook", n=2)
    assert (await engine.deliveries(one))["webhook"] == ("delivered", None)
    assert (await engine.notification(one))["partial"] is False


async def test_the_old_failure_that_is_reported_once_more_stops_nothing(engine: Engine) -> None:
    fleet, one = await partial(engine, OK, OK)
    await report(engine, one, Status.FAILED, over="hook", n=2)
    await again(engine, one)
    await report(engine, one, Status.FAILED, over="hook", n=2)
    assert (await engine.deliveries(one))["webhook"] == ("retrying", None)
    await driven(fleet)
    assert (await engine.deliveries(one))["webhook"] == ("sent", None)
    assert fleet.sent() == {"a": 1, "hook": 2}


async def test_what_may_have_arrived_goes_again_only_when_it_is_asked_for(engine: Engine) -> None:
    fleet, one = await partial(engine, LOST, PERMANENT)
    assert (await engine.notification(one))["partial"] is True
    assert await refusal(engine, one) is Refusal.MAY_HAVE_ARRIVED
    await again(engine, one, wanted=UNKNOWN)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 2}
    assert (await engine.deliveries(one))["webhook"] == ("unknown", "answer_lost"), "the first may be there all the same"


async def test_of_several_that_failed_those_that_are_asked_for(engine: Engine) -> None:
    fleet, one = await partial(engine, PERMANENT, mail=(LOST,), channels=[Channel.EMAIL, Channel.WEBHOOK, Channel.INAPP])
    del fleet
    await engine.pool.execute(
        "UPDATE notification SET status = 'delivered', partial = true, reason = NULL WHERE id = $1", one
    )
    assert await refusal(engine, one, Wanted(AS_A_RULE, channel="email")) is Refusal.MAY_HAVE_ARRIVED
    assert await refusal(engine, one, Wanted(AS_A_RULE, reason="undelivered")) is Refusal.OTHER_CHANNEL
    judged = await again(engine, one)
    assert [step.channel for step in judged.again[one]] == ["webhook", "inapp"]
    assert (await engine.deliveries(one))["email"] == ("unknown", "answer_lost")


async def test_a_cancellation_stops_the_new_try(engine: Engine) -> None:
    fleet, one = await partial(engine)
    await again(engine, one)
    answer = await engine.control.cancel(TENANT, notification_id=one)
    assert (answer.result, answer.cancelled) == ("partly_cancelled", ("webhook",))
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 1}
    assert await engine.end(one) == ("sent", None, True)
    assert await refusal(engine, one) is Refusal.ARRIVED


async def test_what_is_in_hand_meanwhile_cannot_be_edited(engine: Engine) -> None:
    _, one = await partial(engine)
    await again(engine, one)
    edit = Edit(("content",), 1, Lane.MEDIUM, "", None, None, '{"text": "x"}', None, None, None, datetime.now(UTC), None)
    with pytest.raises(HandedOff, match="planned"):
        await EditRepository(engine.pool).write(TENANT, notification_id=one, edit=edit)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ("UPDATE notification SET cancelled_at = now()", Refusal.CANCELLED),
        ("UPDATE notification SET content = NULL", Refusal.CONTENT_ERASED),
        ("UPDATE notification SET erased_at = now()", Refusal.RECIPIENT_GONE),
        ("UPDATE person SET state = 'inactive'", Refusal.RECIPIENT_GONE),
        ("UPDATE notification SET options = '{\"test\": true}'", Refusal.IS_A_TEST),
        ("UPDATE notification SET options = '{\"otp\": \"01a20a32-744b-7020-809a-bb07e52cad04\"}'", Refusal.OTP_MESSAGE),
        ("UPDATE notification SET digest = gen_random_uuid()", Refusal.COLLECTED),
        ("DELETE FROM identity", Refusal.NO_ADDRESS),
        ("UPDATE notification SET partial = false", Refusal.ARRIVED),
        ("INSERT INTO event (notification_id, id, n, at, type) SELECT id, gen_random_uuid(), 0, now(), 'resent' "
         "FROM notification", Refusal.ALREADY_RETRIED),
    ],
)  # fmt: skip
async def test_what_stands_against_it(engine: Engine, change: str, refused: Refusal) -> None:
    _, one = await partial(engine)
    await engine.pool.execute(change)
    assert await refusal(engine, one) is refused


async def test_what_somebody_wanted_back_does_not_go_again(engine: Engine) -> None:
    _, one = await partial(engine)
    recalls = RecallRepository(engine.pool)
    steps = await recalls.stop(TENANT, notification_id=one)
    await recalls.record(TENANT, notification_id=one, steps=[], channels={})
    assert len(steps) == 2
    assert await refusal(engine, one) is Refusal.RECALLED


async def test_another_tenants_is_not_touched(engine: Engine) -> None:
    _, one = await partial(engine)
    judged = await again(engine, one, tenant="globex")
    assert judged.again == {}
    assert await engine.work(one) == []


async def test_it_goes_where_a_plan_would_send_it_now(engine: Engine) -> None:
    """The address was wrong, and was mended."""
    fleet, one = await partial(engine)
    await engine.pool.execute("UPDATE identity SET address = 'https://hook.example.com/new' WHERE channel = 'webhook'")
    await again(engine, one)
    await driven(fleet)
    [_, second] = fleet.accounts.get("hook").provider.sent  # type: ignore[union-attr]
    assert second.address == "https://hook.example.com/new"


async def test_what_has_expired_lives_anew(engine: Engine) -> None:
    fleet, one = await partial(engine, options=msgspec.json.encode({"expires_in": "PT2H"}).decode())
    await engine.pool.execute("UPDATE notification SET expires_at = now() - interval '1 day' WHERE id = $1", one)
    await engine.pool.execute("UPDATE delivery SET status = 'expired', reason = 'expired_before_retry' WHERE n = 2")
    await again(engine, one)
    left = (await engine.notification(one))["expires_at"] - datetime.now(UTC)
    assert timedelta(hours=1) < left <= timedelta(hours=2)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 2}


async def test_a_channel_that_had_no_account_takes_the_one_that_serves_it_now(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("a"))
    [one] = await fleet.send(**BOTH)
    await fleet.drive()
    assert await engine.deliveries(one) == {"email": ("sent", None), "webhook": ("failed", "no_account")}
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    fleet.accounts.replace([*fleet.accounts, Account("hook", hook, Slots(4))])
    await again(engine, one)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 1}
    assert (await engine.notification(one))["partial"] is False


async def test_an_account_that_has_gone_is_left_for_another(engine: Engine) -> None:
    fleet, one = await partial(engine)
    other = MemoryProvider(channel=Channel.WEBHOOK)
    fleet.accounts.replace([fleet.accounts.get("a"), Account("other", other, Slots(4))])  # type: ignore[list-item]
    await again(engine, one)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "other": 1}


async def test_what_a_digest_carries_waits_with_it_and_is_whole_with_it(engine: Engine) -> None:
    fleet, one = await partial(engine)
    [item] = await engine.accepted(**BOTH)
    await engine.pool.execute("DELETE FROM work")
    await engine.pool.execute("UPDATE notification SET digest = $1", one)
    await engine.pool.execute(
        "UPDATE notification SET status = 'sent', partial = true, final = true, expires_at = now() WHERE id = $1", item
    )
    await again(engine, one)
    row = await engine.notification(item)
    assert (row["status"], row["partial"], row["final"]) == ("collected", False, False)
    assert row["expires_at"] == (await engine.notification(one))["expires_at"], "it is still in the message"
    await driven(fleet)
    row = await engine.notification(item)
    assert (row["status"], row["partial"]) == ("sent", False)


async def test_with_a_key_it_is_done_once(engine: Engine) -> None:
    fleet, one = await partial(engine, PERMANENT, PERMANENT)
    key = Key(TENANT, "shop", "POST /v1/notifications/retry", "k", b"body", b"")
    repository = PartialRepository(engine.pool)
    for first in (True, False):
        done = await repository.reopen(TENANT, [one], wanted=Wanted(), key=key, answer=lambda judged: b"said")
        assert (done is not None) is first
        await driven(fleet)
    assert await engine.pool.fetchval("SELECT answer FROM idempotency WHERE key = 'k'") == b"said"
    assert fleet.sent() == {"a": 1, "hook": 2}


@pytest.mark.parametrize("answer", [OK, PERMANENT])
async def test_a_late_word_of_the_first_attempt(engine: Engine, answer: SendResult) -> None:
    """It was called lost, its new try waits, and then its worker brings the outcome home."""
    cohort, [one] = await engine.planned(**BOTH)
    await engine.answer(await engine.claim(cohort, Channel.EMAIL))
    [claim] = await engine.claim(cohort, Channel.WEBHOOK)
    await engine.lose(one)
    await engine.flush(*[engine.decider().lost(lost) for lost in await engine.lost(cohort.id, limit=5)])
    assert (await engine.deliveries(one))["webhook"] == ("unknown", "answer_lost")
    await again(engine, one, wanted=UNKNOWN)
    await engine.answer([claim], answer)
    if answer is OK:
        assert await engine.work(one) == []
        assert await engine.end(one) == ("sent", None, True)
    else:
        assert await engine.work(one) == [], "it was refused for good: another try cannot help"
        assert (await engine.deliveries(one))["webhook"] == ("failed", "content_refused")
        assert (await engine.notification(one))["partial"] is True
