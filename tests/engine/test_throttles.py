"""A throttle holds back its account, or its endpoint, and nobody else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from activities.accounts.account import Account, Accounts
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from channels.base import Message
from channels.memory import MemoryProvider
from domain.permits import Bucket
from domain.results import ResultClass, SendResult
from domain.shares import endpoint_of
from domain.timeline import LeftFor
from infra.postgres.engine.permits import PermitRepository
from tests.engine.driving import activities, drive
from tests.engine.receivers import Hooks, cohort_of, drained, hooks, takes_nothing, to
from tests.engine.support import Engine

THROTTLED = SendResult(ResultClass.RATE, code="http_429", retry_after=timedelta(seconds=60))
OK = SendResult(ResultClass.OK)


async def test_an_account_that_throttles_is_not_called_for_each_message(engine: Engine) -> None:
    """Caught: ten thousand messages made ten thousand calls, each answered 429, and again a minute later."""
    now_s, busy = [100.0], [True]
    provider = MemoryProvider(answer=lambda _: THROTTLED if busy else OK)
    accounts = Accounts([Account("memory-email", provider, Slots(4))], clock=lambda: now_s[0])
    work = activities(engine, accounts=accounts)
    cohort, ids = await engine.planned(200)
    waits_s = (await work.deliver(drive(cohort))).waits_s
    assert len(provider.sent) <= 8, "those that were in flight with the first answer"
    assert 50 < waits_s["memory-email"] <= 60
    busy.clear()
    now_s[0] += 61
    await drained(engine, work)
    assert {(await engine.end(one))[0] for one in ids} == {"sent"}


async def test_another_account_takes_what_a_throttled_one_does_not(engine: Engine) -> None:
    throttled = MemoryProvider(answer=lambda _: THROTTLED)
    other = MemoryProvider()
    accounts = Accounts([Account("a", throttled, Slots(4)), Account("b", other, Slots(4), order=1)])
    cohort, ids = await engine.planned(100)
    await engine.pool.execute("UPDATE work SET account = 'a'")
    assert (await activities(engine, accounts=accounts).deliver(drive(cohort))).waits_s == {}
    assert len(throttled.sent) <= 8
    assert len(other.sent) == len(ids)
    reasons = await engine.pool.fetch("SELECT DISTINCT detail->>'reason' AS why FROM event WHERE type = 'failover'")
    assert {LeftFor(row["why"]) for row in reasons} == {LeftFor.FAILED, LeftFor.THROTTLED}


async def test_an_endpoint_that_throttles_is_held_back_alone(engine: Engine) -> None:
    """Catches: a 429 of one receiver that stops everybody's webhooks, or only its own message."""

    def answer(message: Message) -> SendResult:
        return THROTTLED if "busy" in message.address else OK

    provider = Hooks(answer=answer)
    work = activities(engine, accounts=hooks(provider, slots=16))
    await work.deliver(drive(await cohort_of(engine, "acme", 1, "fine")))
    await engine.accepted(100, **to("busy"))
    await engine.accepted(100, **to("fine"))
    cohort = await engine.grouped()
    waits_s = (await work.deliver(drive(cohort))).waits_s
    sent = Counter(endpoint_of(m.address) for m in provider.sent)
    assert sent["https://busy.example/x"] <= 16
    assert sent["https://fine.example/x"] == 101
    assert waits_s["hook"] > 0
    await engine.pool.execute("UPDATE work SET due_at = now() WHERE due_at < now() + interval '10 seconds'")
    await work.deliver(drive(cohort))
    waiting = await engine.pool.fetchval("SELECT count(*) FROM work WHERE due_at > now() + interval '40 seconds'")
    assert waiting == 100, "also what was given back before it was throttled"
    assert len(provider.sent) <= 101 + 16


async def test_what_did_not_go_used_no_permit(engine: Engine) -> None:
    """Caught: of an account with a rate, each look at a cohort whose receivers are held back used up permits."""
    leases, bucket = PermitRepository(engine.pool), Bucket(10, 0.001)
    limited = Permits(leases, account="hook", rate_per_second=1.0)
    limited._bucket = bucket
    account = replace(takes_nothing(engine, "throttled target"), permits=limited)
    await engine.accepted(7, **to("busy"))
    await engine.accepted(2, **to("fine"))
    await activities(engine, accounts=Accounts([account])).deliver(drive(await engine.grouped()))
    assert len(account.provider.sent) == 2  # type: ignore[attr-defined]
    assert (await leases.lease("hook", bucket=bucket, wanted=20)).count == 8
