"""Receivers that hang, throttle or are few: what waits for them stops nobody else."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from activities.cohorts import drive as cohort_drive
from activities.delivery import DeliveryActivities
from activities.handing_over import account_loop
from channels.base import Capabilities, Message
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import FEW, POLICIES, SHARED_KEEPS, Lane
from domain.permits import Bucket
from domain.results import ResultClass, SendResult
from domain.shares import endpoint_of
from domain.timeline import LeftFor
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.permits import PermitRepository
from tests.engine.driving import HeldProvider, activities, drive
from tests.engine.support import Engine

HIGH, MEDIUM = Lane.HIGH, Lane.MEDIUM
THROTTLED = SendResult(ResultClass.RATE, code="http_429", retry_after=timedelta(seconds=60))
OK = SendResult(ResultClass.OK)
MANY = FEW + 20
"""So many of one tenant have a cohort of their own."""


class Hooks(HeldProvider):
    """Webhooks. Those to a host that is named `hangs` wait until the test lets them go."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(channel=Channel.WEBHOOK, **rest)

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, many_servers=True, call_timeout_s=60.0)

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        if "hangs" in batch[0].address:
            return await super().send(batch)
        return await MemoryProvider.send(self, batch)


def hooks(provider: MemoryProvider, *, slots: int = 16) -> Accounts:
    return Accounts([Account("hook", provider, Slots.for_many_servers(slots))])


def to(host: str) -> dict[str, Any]:
    return {"to": (Channel.WEBHOOK, f"https://{host}.example/x"), "channels": [Channel.WEBHOOK]}


async def cohort_of(engine: Engine, tenant: str, count: int, host: str, *, lane: Lane = MEDIUM) -> CohortRow:
    await engine.accepted(count, lane=lane, tenant=tenant, **to(host))
    return await engine.grouped(lane)


async def drained(engine: Engine, work: DeliveryActivities) -> None:
    """Whatever waits is due, until nothing is left."""
    while await engine.work():
        await engine.make_due()
        await engine.cohorts.group(MEDIUM)
        for row in await engine.pool.fetch("SELECT id, epoch, tenant FROM cohort"):
            await work.deliver(drive(CohortRow(row["id"], row["epoch"], MEDIUM, row["tenant"])))


async def test_receivers_that_hang_leave_slots_for_others(engine: Engine) -> None:
    """Caught: two tenants with an endpoint each that hangs had all slots, and everybody's webhooks waited ten seconds a
    row; what finds no place is put off, and keeps no slot."""
    provider = Hooks()
    work = activities(engine, accounts=hooks(provider, slots=64))
    cohorts = [await cohort_of(engine, tenant, MANY, "hangs") for tenant in ("a", "b")]
    hanging = [asyncio.create_task(work.deliver(drive(cohort))) for cohort in cohorts]
    await provider.until(lambda: provider.inside >= 40)
    other = await cohort_of(engine, "c", 3, "quick")
    assert (await work.deliver(drive(other))).handed_over == 3
    assert 40 <= provider.inside < 60, "they still hang"
    await provider.let_go()
    await asyncio.gather(*hanging)
    assert {m.tenant for m in provider.sent} == {"a", "b", "c"}


async def test_what_is_claimed_for_a_receiver_that_nobody_knows_is_called(engine: Engine) -> None:
    """Caught: of each first claim for one half went back, at two writes a message."""
    provider = Hooks()
    work = activities(engine, accounts=hooks(provider, slots=64))
    running = asyncio.create_task(work.deliver(drive(await cohort_of(engine, "a", 60, "hangs"))))
    await provider.until(lambda: provider.inside >= 32)
    claimed = await engine.pool.fetchval("SELECT count(*) FROM work WHERE attempt > 0")
    assert claimed == provider.inside
    await provider.let_go()
    await running


async def test_what_went_back_is_called_before_the_others_have_answered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught: it waited for all calls that had begun, as long as those hang, whatever became free meanwhile."""
    monkeypatch.setattr(Account, "unproven_at_once", lambda *_, taken: taken)
    provider = Hooks()
    accounts = hooks(provider, slots=64)
    work = activities(engine, accounts=accounts)
    running = asyncio.create_task(work.deliver(drive(await cohort_of(engine, "a", 40, "hangs"))))
    await provider.until(lambda: provider.inside >= 32)
    await provider.let_go(20)
    async with asyncio.timeout(5):
        await provider.until(lambda: len(provider.sent) == 20 and provider.inside == 20)
    await provider.let_go()
    await running


async def test_all_that_waited_is_sent_when_the_receiver_is_back(engine: Engine) -> None:
    """Catches: what was put off, or given back, and is nobody's."""
    provider = Hooks()
    work = activities(engine, accounts=hooks(provider))
    cohort = await cohort_of(engine, "a", MANY, "hangs")
    running = asyncio.create_task(work.deliver(drive(cohort)))
    await provider.until(lambda: provider.inside >= 8)
    await provider.let_go()
    await running
    await drained(engine, work)
    assert Counter(Counter(m.delivery_id for m in provider.sent).values()) == {1: MANY}


async def test_a_cohort_that_waits_for_answers_takes_no_place_of_its_lane(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught: eight cohorts whose receivers hang filled the medium lane, and nobody's messages were grouped, whatever
    their channel."""
    monkeypatch.setattr(cohort_drive, "WAITS_AFTER", timedelta(milliseconds=10))
    provider = Hooks()
    only_one = replace(POLICIES[MEDIUM], cohorts_open=1)
    cohort = await cohort_of(engine, "a", MANY, "hangs")
    running = asyncio.create_task(activities(engine, accounts=hooks(provider)).deliver(drive(cohort)))
    await provider.until(lambda: provider.inside >= 8)
    await engine.accepted(1, tenant="c")
    others = None
    while others is None:
        others = await engine.cohorts.group(MEDIUM, policy=only_one)
        await asyncio.sleep(0)
    await provider.let_go()
    await running


async def test_what_finds_no_slot_is_put_off_and_its_activity_ends(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught: it waited for a slot for as long as none was free, with its place in the lane and its worker's activity,
    beyond the time at which Temporal starts another one for the same cohort."""
    monkeypatch.setattr(account_loop, "SLOT_WITHIN", timedelta(milliseconds=10))
    slow = Account("memory-email", MemoryProvider(), Slots(1))
    work = activities(engine, accounts=Accounts([slow]))
    cohort, [one] = await engine.planned(1, lane=HIGH)
    await slow.slots.take(1)
    driven = await work.deliver(drive(cohort))
    assert driven.handed_over == 0
    assert driven.waits_s["memory-email"] > 0, "not due at once: it would be driven over and over"
    assert await engine.pool.fetchval("SELECT holding FROM cohort")
    slow.slots.give()
    await engine.make_due()
    assert (await work.deliver(drive(cohort))).waits_s == {}
    assert (await engine.end(one))[0] == "sent"


async def test_what_is_put_off_for_long_leaves_a_shared_cohort_and_stays_in_a_tenants_own(engine: Engine) -> None:
    """Catches: under a lasting flood a new cohort every moment, each of which is driven again and again for what waits;
    and a tenant's backlog that is planned and put off from end to end, over and over."""
    shared, _ = await engine.planned(3, lane=HIGH)
    own, _ = await engine.planned(MANY, lane=MEDIUM)
    hour, nothing = timedelta(hours=1), timedelta(0)
    for cohort, wait in ((shared, SHARED_KEEPS / 2), (own, hour)):
        await engine.claims.queue.park(cohort.id, epoch=1, account="memory-email", wait=wait, spacing=nothing)
    await engine.cohorts.leave(own, horizon=POLICIES[MEDIUM].hold_horizon)
    assert len(await _rows_of(engine, own.id)) == MANY
    assert len(await _rows_of(engine, shared.id)) == 3
    await engine.make_due()
    await engine.claims.queue.park(shared.id, epoch=1, account="memory-email", wait=hour, spacing=nothing)
    assert await _rows_of(engine, shared.id) == []
    late = "SELECT count(*) FROM work WHERE due_at > now() + interval '1 minute'"
    assert await engine.pool.fetchval(late) == 0, "both are looked at again within a minute"


async def test_a_tenant_that_waits_for_its_accounts_gets_only_so_many_more_cohorts(engine: Engine) -> None:
    policy = replace(POLICIES[MEDIUM], cohort_size=FEW + 1, cohorts_behind=2)
    await engine.accepted(5 * (FEW + 1), tenant="a")
    for _ in range(2):
        behind = await engine.cohorts.group(MEDIUM, policy=policy)
        assert behind is not None
        await engine.plan(behind)
        await engine.claims.queue.park(
            behind.id, epoch=1, account="memory-email", wait=timedelta(hours=1), spacing=timedelta(0)
        )
        await engine.cohorts.leave(behind, horizon=policy.hold_horizon)
    assert await engine.cohorts.group(MEDIUM, policy=policy) is None
    await engine.accepted(FEW + 1, tenant="b")
    other = await engine.cohorts.group(MEDIUM, policy=policy)
    assert other is not None
    assert other.tenant == "b"


async def test_what_is_tried_again_in_a_while_holds_up_no_bulk(engine: Engine) -> None:
    """Catches: cohorts whose last few rows wait for a retry counted among those."""
    policy = replace(POLICIES[MEDIUM], cohort_size=FEW + 1, cohorts_behind=1)
    await engine.accepted(2 * (FEW + 1), tenant="a")
    cohort = await engine.cohorts.group(MEDIUM, policy=policy)
    assert cohort is not None
    await engine.plan(cohort)
    await engine.answer(await engine.claim(cohort), SendResult(ResultClass.RETRY, code="451"))
    await engine.cohorts.leave(cohort, horizon=policy.hold_horizon)
    assert await engine.cohorts.group(MEDIUM, policy=policy) is not None


def _takes_nothing(engine: Engine, why: str) -> Account:
    """An account, and why it may not be called."""
    if why == "throttled target":
        account = Account("hook", Hooks(), Slots.for_many_servers(16))
        target, now_s = ("acme", "https://busy.example/x"), time.monotonic()
        account.shares.begin(why, target, now_s=now_s)
        account.shares.end(why, target, now_s=now_s, answered=True)
        account.shares.throttled(target, 60.0, now_s=now_s, took_s=0.0)
        return account
    limited = Permits(PermitRepository(engine.pool), account="mail", rate_per_second=0.01)
    account = Account("mail", MemoryProvider(), Slots(1), permits=limited if why == "no permit" else None)
    if why == "throttled":
        account.health.throttle.hold(60.0, now_s=time.monotonic(), took_s=0.0)
    return account


@pytest.mark.parametrize("why", ["throttled", "throttled target", "no slot", "no permit"])
@pytest.mark.parametrize("count", [1, MANY])
async def test_what_expires_while_its_account_takes_nothing_ends(engine: Engine, why: str, count: int) -> None:
    """Caught: it was put off to the moment at which it had expired, again and again without a pause, and ended only when
    the account was called again."""
    account = _takes_nothing(engine, why)
    if why == "no slot":
        await account.slots.take(1)
    if account.permits:
        await account.permits.take(1)
    work = activities(engine, accounts=Accounts([account]))
    ids = await engine.accepted(count, **(to("busy") if account.name == "hook" else {}))
    cohort = await engine.grouped()
    waits_s = (await work.deliver(drive(cohort))).waits_s
    assert all(wait_s > 0 for wait_s in waits_s.values())
    await engine.pool.execute("UPDATE work SET due_at = now(), expires_at = now()")
    if not waits_s:
        cohort = await engine.grouped()  # it was shared, and has left it
    assert (await work.deliver(drive(cohort))).waits_s == {}
    assert {await engine.end(one) for one in ids} == {("expired", "expired_before_hand_over", True)}
    assert account.provider.sent == []  # type: ignore[attr-defined]


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
    account = replace(_takes_nothing(engine, "throttled target"), permits=limited)
    await engine.accepted(7, **to("busy"))
    await engine.accepted(2, **to("fine"))
    await activities(engine, accounts=Accounts([account])).deliver(drive(await engine.grouped()))
    assert len(account.provider.sent) == 2  # type: ignore[attr-defined]
    assert (await leases.lease("hook", bucket=bucket, wanted=20)).count == 8


async def _rows_of(engine: Engine, cohort: UUID) -> list[Any]:
    return [row for row in await engine.work() if row["cohort"] == cohort]
