"""What is put off because its account takes nothing: it stops nobody else, expires in time, and is not driven in vain."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from activities.handing_over import account_loop
from channels.memory import MemoryProvider
from domain.lanes import FEW, POLICIES, SHARED_KEEPS
from domain.results import ResultClass, SendResult
from tests.engine.driving import activities, drive
from tests.engine.receivers import HIGH, MANY, MEDIUM, takes_nothing, to
from tests.engine.support import Engine


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
        await engine.claims.queue.park(cohort, account="memory-email", wait=wait, spacing=nothing)
    await engine.cohorts.leave(own, horizon=POLICIES[MEDIUM].hold_horizon)
    assert len(await _rows_of(engine, own.id)) == MANY
    assert len(await _rows_of(engine, shared.id)) == 3
    await engine.make_due()
    await engine.claims.queue.park(shared, account="memory-email", wait=hour, spacing=nothing)
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
        await engine.claims.queue.park(behind, account="memory-email", wait=timedelta(hours=1), spacing=timedelta(0))
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


@pytest.mark.parametrize("why", ["throttled", "throttled target", "no slot", "no permit"])
@pytest.mark.parametrize("count", [1, MANY])
async def test_what_expires_while_its_account_takes_nothing_ends(engine: Engine, why: str, count: int) -> None:
    """Caught: it was put off to the moment at which it had expired, again and again without a pause, and ended only when
    the account was called again."""
    account = takes_nothing(engine, why)
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


async def _rows_of(engine: Engine, cohort: UUID) -> list[Any]:
    return [row for row in await engine.work() if row["cohort"] == cohort]
