"""Chains that go on after their end: a receipt says that the last message failed, and there are places left."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from api.recalls import RecallService
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.errors import Conflict
from domain.lanes import Lane
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.recalling import RecallRepository
from infra.postgres.engine.removing import RemoveRepository
from tests.engine.fleet import Fleet, Provider, account
from tests.engine.reported_ways import CHAIN, LONG_CHAIN, mail_then_hook, report
from tests.engine.support import LOST, RETRY, TENANT, Engine, row, soon

HOLD = '{"on_unknown": "hold"}'


async def driven(fleet: Fleet) -> None:
    """All that is due is driven, in cohorts of its own where it is in none."""
    for lane in Lane:
        while (cohort := await fleet.engine.cohorts.group(lane)) is not None:
            fleet.cohort = cohort
            await fleet.drive()


async def ended(engine: Engine, *script: SendResult, **fields: Any) -> tuple[Fleet, UUID]:
    """A chain whose first message was taken, and that is at its end."""
    fleet, _ = mail_then_hook(engine, *script)
    [one] = await fleet.send(**CHAIN | fields)
    assert await fleet.drive() == {}
    assert await engine.work(one) == []
    return fleet, one


async def test_the_next_channel_is_tried_and_the_timeline_says_why(engine: Engine) -> None:
    fleet, one = await ended(engine)
    assert await engine.end(one) == ("sent", None, False)
    taken = await report(engine, one, Status.FAILED, result=ResultClass.RECIPIENT)
    assert taken.lanes == {Lane.MEDIUM}
    assert (await engine.end(one))[2] is False
    assert (await engine.notification(one))["finished_at"] is None
    await driven(fleet)
    assert await engine.deliveries(one) == {"email": ("failed", "recipient_refused"), "webhook": ("sent", None)}
    assert await engine.end(one) == ("sent", None, True)
    assert fleet.sent() == {"a": 1, "hook": 1, "inbox": 0}
    assert (await engine.events(one))[1:] == ["attempt", "receipt", "resumed", "fallback", "attempt"]
    assert await engine.detail(one, "resumed") == {"channel": "email", "chain": ["webhook"]}


async def test_failures_reported_after_the_window_resume_a_chain_place_by_place(engine: Engine) -> None:
    hook = Provider(channel=Channel.WEBHOOK)
    inbox = MemoryProvider(channel=Channel.INAPP)
    fleet = Fleet.of(
        engine, account("a", provider=Provider), Account("hook", hook, Slots(4)), Account("inbox", inbox, Slots(4))
    )
    [one] = await fleet.send(**LONG_CHAIN)
    await fleet.drive()
    await engine.end_of_windows()
    assert await engine.end(one) == ("sent", None, True)
    for n, over in ((1, "a"), (2, "hook")):
        await report(engine, one, Status.FAILED, over=over, n=n)
        assert (await engine.end(one))[2] is False
        await driven(fleet)
    assert await engine.end(one) == ("sent", None, True)
    assert fleet.sent() == {"a": 1, "hook": 1, "inbox": 1}
    assert [m.n for m in inbox.sent] == [3]


async def test_the_last_place_is_the_end(engine: Engine) -> None:
    fleet, one = await ended(engine, SendResult(ResultClass.PERMANENT))
    await report(engine, one, Status.FAILED)
    await driven(fleet)
    assert await engine.end(one) == ("failed", "undelivered", True)
    await report(engine, one, Status.FAILED)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 1, "inbox": 0}
    await report(engine, one, Status.DELIVERED)
    assert await engine.end(one) == ("delivered", None, True)


async def test_what_failed_after_its_time_stays_so_when_a_clock_that_is_set_back_gives_it_time_again(
    engine: Engine,
) -> None:
    """It has ended, and whoever asked was told."""
    fleet, one = await ended(engine)
    await engine.pool.execute("UPDATE notification SET expires_at = now() - interval '1 second'")
    await report(engine, one, Status.FAILED)
    assert await engine.end(one) == ("failed", "undelivered", True)
    await engine.pool.execute("UPDATE notification SET expires_at = now() + interval '1 hour'")
    await report(engine, one, Status.FAILED)
    await driven(fleet)
    assert await engine.end(one) == ("failed", "undelivered", True)
    assert fleet.sent() == {"a": 1, "hook": 0, "inbox": 0}


async def test_another_account_of_the_channel_comes_before_the_next_channel(engine: Engine) -> None:
    """As it is after the same answer at once."""
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    second = account("b", order=1, provider=Provider)
    fleet = Fleet.of(engine, account("a", provider=Provider), second, Account("hook", hook, Slots(4)))
    [one] = await fleet.send(**CHAIN)
    await fleet.drive()
    await report(engine, one, Status.FAILED)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "b": 1, "hook": 0}
    assert await engine.end(one) == ("sent", None, False)
    await report(engine, one, Status.FAILED, over="b")
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "b": 1, "hook": 1}


async def test_two_reports_at_once_open_one_place(engine: Engine) -> None:
    fleet, one = await ended(engine)
    reports = [report(engine, one, Status.FAILED, result=result) for result in (ResultClass.RETRY, ResultClass.PERMANENT)]
    await asyncio.gather(*reports, *(report(engine, one, Status.FAILED) for _ in range(4)))
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 1, "inbox": 0}
    assert (await engine.events(one)).count("resumed") == 1


async def test_a_failure_that_came_before_our_own_record(engine: Engine) -> None:
    fleet, _ = mail_then_hook(engine)
    [one] = await fleet.send(**CHAIN)
    await report(engine, one, Status.FAILED)
    await fleet.drive()
    await driven(fleet)
    assert await engine.deliveries(one) == {"email": ("failed", "undelivered"), "webhook": ("sent", None)}


async def test_what_arrived_after_all_takes_the_next_place_back(engine: Engine) -> None:
    fleet, one = await ended(engine, RETRY)
    await report(engine, one, Status.FAILED)
    await report(engine, one, Status.DELIVERED)
    assert await engine.work(one) == []
    assert await engine.end(one) == ("delivered", None, True)
    fleet, one = await ended(engine, RETRY)
    await report(engine, one, Status.FAILED)
    await driven(fleet)
    assert [(w["channel"], w["state"]) for w in await engine.work(one)] == [("webhook", 0)], "its retry waits"
    await report(engine, one, Status.DELIVERED)
    assert await engine.work(one) == []
    assert await engine.end(one) == ("delivered", None, True)
    assert fleet.sent() == {"a": 1, "hook": 1, "inbox": 0}


async def test_nothing_follows_what_arrived_over_another_channel(engine: Engine) -> None:
    """The second place's message failed; the first one's, whose receipt was overdue, has arrived meanwhile."""
    hook = Provider(channel=Channel.WEBHOOK)
    inbox = MemoryProvider(channel=Channel.INAPP)
    fleet = Fleet.of(
        engine, account("a", provider=Provider), Account("hook", hook, Slots(4)), Account("inbox", inbox, Slots(4))
    )
    for together in (False, True):
        [one] = await fleet.send(**LONG_CHAIN)
        await fleet.drive()
        await report(engine, one, Status.FAILED)
        await driven(fleet)
        if together:
            arrives = Receipt(f"{one}-1", Status.DELIVERED)
            await asyncio.gather(engine.receipts.take("a", [arrives]), report(engine, one, Status.FAILED, over="hook", n=2))
        else:
            await report(engine, one, Status.DELIVERED)
            await report(engine, one, Status.FAILED, over="hook", n=2)
        assert await engine.work(one) == [] or together
        await report(engine, one, Status.DELIVERED)
        await driven(fleet)
        assert (await engine.end(one))[0] == "delivered"
    assert inbox.sent == []


async def test_an_unknown_that_failed_goes_on(engine: Engine) -> None:
    """The chain had stopped there, because it might have arrived."""
    fleet, hook = mail_then_hook(engine)
    fleet.accounts.get("a").provider.script(LOST)  # type: ignore[union-attr]
    [one] = await fleet.send(options=HOLD, **CHAIN)
    await fleet.drive()
    assert await engine.end(one) == ("unknown", "answer_lost", True)
    message = fleet.accounts.get("a").provider.sent[0]  # type: ignore[union-attr]
    await engine.receipts.take("a", [Receipt(None, Status.FAILED, reference=message.reference)])
    await driven(fleet)
    assert await engine.deliveries(one) == {"email": ("failed", "undelivered"), "webhook": ("sent", None)}
    assert len(hook.sent) == 1


async def test_what_was_taken_back_by_a_receipt_leaves_its_chain_behind(engine: Engine) -> None:
    """Its resend waited when a receipt said that the first had been taken; then another one that it failed."""
    fleet, _ = mail_then_hook(engine)
    fleet.accounts.get("a").provider.script(LOST)  # type: ignore[union-attr]
    await fleet.send(options='{"on_unknown": "resend"}', **CHAIN)
    await fleet.drive()
    message = fleet.accounts.get("a").provider.sent[0]  # type: ignore[union-attr]
    for status in (Status.SENT, Status.FAILED):
        await engine.receipts.take("a", [Receipt(None, status, reference=message.reference)])
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 1, "inbox": 0}


async def nothing_follows(fleet: Fleet, one: UUID) -> None:
    await report(fleet.engine, one, Status.FAILED)
    assert await fleet.engine.work(one) == []
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 0, "inbox": 0}
    assert "resumed" not in await fleet.engine.events(one)
    assert await fleet.engine.deliveries(one) == {"email": ("failed", "undelivered")}
    assert await fleet.engine.end(one) == ("failed", "undelivered", True)


@pytest.mark.parametrize("final", [False, True])
async def test_not_after_a_cancellation(engine: Engine, final: bool) -> None:  # noqa: FBT001 - a table
    fleet, one = await ended(engine)
    if final:
        await engine.end_of_windows()
    await engine.control.cancel(TENANT, notification_id=one)
    await nothing_follows(fleet, one)


async def test_not_after_a_recall(engine: Engine) -> None:
    """It cannot be taken back on this channel; nothing more is sent all the same."""
    fleet, one = await ended(engine)
    await RecallService(RecallRepository(engine.pool), {}).recall(TENANT, notification_id=one)
    await nothing_follows(fleet, one)


async def test_not_after_a_recall_of_what_had_ended(engine: Engine) -> None:
    """Catches: a recall that stops only what is open. The next channel would be sent after it."""
    fleet, one = await ended(engine)
    await engine.end_of_windows()
    await RecallService(RecallRepository(engine.pool), {}).recall(TENANT, notification_id=one)
    await nothing_follows(fleet, one)


async def test_not_after_it_was_removed(engine: Engine) -> None:
    fleet, one = await ended(engine)
    await engine.end_of_windows()
    await RemoveRepository(engine.pool).remove(TENANT, notification_id=one)
    await nothing_follows(fleet, one)


async def test_not_after_it_has_expired(engine: Engine) -> None:
    fleet, one = await ended(engine)
    await engine.pool.execute("UPDATE notification SET expires_at = now()")
    await nothing_follows(fleet, one)


async def test_not_beside_a_new_one_that_was_made_from_it(engine: Engine) -> None:
    fleet, one = await ended(engine)
    await engine.accept.store_again(row(send_at=soon(3600)), origin=one, key=None)
    await nothing_follows(fleet, one)


async def test_what_goes_on_is_not_made_anew(engine: Engine) -> None:
    """Whoever asked for it had looked a moment before."""
    _, one = await ended(engine)
    await report(engine, one, Status.FAILED)
    with pytest.raises(Conflict) as refused:
        await engine.accept.store_again(row(), origin=one, key=None)
    assert refused.value.code == "still_open"
    assert await engine.pool.fetchval("SELECT count(*) FROM notification") == 1


async def test_not_where_all_channels_were_asked_for(engine: Engine) -> None:
    fleet, _ = mail_then_hook(engine)
    [one] = await fleet.send(**CHAIN | {"strategy": "all"})
    await fleet.drive()
    await report(engine, one, Status.FAILED)
    assert await engine.work(one) == []
    assert await engine.end(one) == ("sent", None, True)
    assert fleet.sent() == {"a": 1, "hook": 1, "inbox": 0}


async def test_what_is_cancelled_after_it_was_resumed_is_stopped(engine: Engine) -> None:
    fleet, one = await ended(engine)
    await report(engine, one, Status.FAILED)
    await engine.control.cancel(TENANT, notification_id=one)
    await driven(fleet)
    assert fleet.sent() == {"a": 1, "hook": 0, "inbox": 0}
    assert (await engine.end(one))[2] is True


async def test_a_resumed_row_that_expires_or_is_given_back(engine: Engine) -> None:
    fleet, one = await ended(engine)
    await report(engine, one, Status.FAILED)
    [row] = await engine.work(one)
    cohort = await engine.grouped()
    [claim] = await engine.claim_over(cohort.id, "a")
    assert (claim.awaiting, claim.receipt, claim.attempt) == (True, ResultClass.RETRY, row["attempt"] + 1)
    await engine.claims.give_back([Returned(one, 1, claim.attempt)])
    await engine.pool.execute("UPDATE work SET expires_at = now()")
    fleet.cohort = cohort
    await fleet.drive()
    assert await engine.end(one) == ("failed", "undelivered", True)
    assert fleet.sent() == {"a": 1, "hook": 0, "inbox": 0}


async def test_what_a_digest_carried_goes_on_with_it(engine: Engine) -> None:
    fleet, one = await ended(engine)
    [item] = await engine.accepted(1, user="u-1")
    await engine.pool.execute("DELETE FROM work WHERE notification_id = $1", item)
    await engine.pool.execute(
        "UPDATE notification SET digest = $1, status = 'sent', final = id = $2, "
        "finished_at = CASE WHEN id = $2 THEN now() END WHERE id = ANY ($3)", one, item, [one, item],
    )  # fmt: skip
    await report(engine, one, Status.FAILED)
    assert await engine.end(item) == ("collected", None, False)
    await driven(fleet)
    assert await engine.end(item) == ("sent", None, True)
