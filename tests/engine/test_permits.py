"""Permits of an account with a rate: who has the next one, and whose turn comes when."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from domain.lanes import FEW
from domain.permits import Bucket, PermitRank
from infra.postgres.engine.permits import PermitRepository
from tests.engine.driving import activities, drive
from tests.engine.support import Engine


@pytest.mark.parametrize("rate_per_second", [2, 1 / 60])
async def test_the_high_lane_gets_the_next_permit(engine: Engine, rate_per_second: float) -> None:
    """Caught: an OTP found the bucket empty, again and again, because bulk took each permit as it came. Caught: where
    the next one takes a minute, the time until which it was kept was over before that."""
    leases, bucket = PermitRepository(engine.pool), Bucket.of(rate_per_second)
    assert (await leases.lease("a", bucket=bucket, wanted=1)).count == 1
    refused = await leases.lease("a", bucket=bucket, wanted=1, rank=PermitRank.HIGH)
    assert refused.count == 0
    await _time_passes(engine, refused.wait)
    bulk = await leases.lease("a", bucket=bucket, wanted=5)
    assert bulk.count == 0
    assert bulk.wait > refused.wait / 2, "it waits for the one after"
    assert (await leases.lease("a", bucket=bucket, wanted=1, rank=PermitRank.HIGH)).count == 1
    await _time_passes(engine, timedelta(seconds=1.2 / rate_per_second))
    assert (await leases.lease("a", bucket=bucket, wanted=1)).count == 1, "nothing is owed any more"


async def test_a_permit_that_nobody_comes_for_is_not_kept_for_ever(engine: Engine) -> None:
    """Catches: an OTP that was cancelled meanwhile stops the account for everybody else."""
    leases, bucket = PermitRepository(engine.pool), Bucket.of(2)
    await leases.lease("a", bucket=bucket, wanted=1)
    await leases.lease("a", bucket=bucket, wanted=1, rank=PermitRank.HIGH)
    await _time_passes(engine, timedelta(seconds=3))
    assert (await leases.lease("a", bucket=bucket, wanted=1)).count == 1


async def test_permits_that_come_back_make_no_more_than_there_can_be(engine: Engine) -> None:
    """Catches: a burst above the account's rate."""
    leases, bucket = PermitRepository(engine.pool), Bucket(10, 0.001)
    await leases.lease("a", bucket=bucket, wanted=4)
    await leases.give_back("a", count=50, most=bucket.burst)
    assert (await leases.lease("a", bucket=bucket, wanted=50)).count == 10


async def test_what_was_held_for_long_does_not_come_back(engine: Engine) -> None:
    """Caught: permits that came back when the bucket had been filled again, and somebody had had that, were too many."""
    leases = PermitRepository(engine.pool)
    permits = Permits(leases, account="held", rate_per_second=2)
    assert (await permits.take(1)).count == 1
    await permits.give_back(1, held_s=0.5)
    assert (await permits.take(1)).count == 0
    await permits.give_back(1, held_s=0.0)
    assert (await permits.take(1)).count == 1


async def test_bulk_that_stays_no_longer_takes_what_there_is(engine: Engine) -> None:
    """Caught: put off beside eight permits of ten, because a bucketful would have taken too long."""
    leases, bucket = PermitRepository(engine.pool), Bucket(10, 10.0)
    await leases.lease("a", bucket=bucket, wanted=5)
    assert (await leases.lease("a", bucket=bucket, wanted=20)).stays
    assert (await leases.lease("a", bucket=bucket, wanted=20, stays_s=0.1)).count >= 5


async def test_what_was_granted_ahead_is_owed_at_the_rate_of_now(engine: Engine) -> None:
    """Catches: eight permits granted ahead at 200 a second take four seconds at 2."""
    leases, before, now = PermitRepository(engine.pool), Bucket.of(200), Bucket.of(2)
    assert (await leases.lease("a", bucket=before, wanted=20)).count == 20
    await _time_passes(engine, timedelta(seconds=0.065))
    ahead = await leases.lease("a", bucket=before, wanted=20)
    assert ahead.count == 20
    assert ahead.wait > timedelta(0), "they are not there yet"
    refused = await leases.lease("a", bucket=now, wanted=1, rank=PermitRank.FEW)
    assert refused.count == 0
    assert refused.wait <= timedelta(seconds=(now.burst + 1) / now.per_second)


async def test_cohorts_beside_each_other_are_given_turns_one_after_the_other(engine: Engine) -> None:
    """Caught: each gave its rows turns from now on, so that ten cohorts came back ten times as fast as the rate."""
    limited = Permits(PermitRepository(engine.pool), account="memory-email", rate_per_second=2)
    account = Account("memory-email", MemoryProvider(), Slots(4), permits=limited)
    work = activities(engine, accounts=Accounts([account]))
    for tenant in "abc":
        await engine.accepted(FEW + 1, tenant=tenant)
    for _ in "abc":
        await work.deliver(drive(await engine.grouped()))  # which stays for some, and gives the others turns
    due = sorted(row["due_at"] for row in await engine.work())
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(due)]
    assert len(due) >= 3 * FEW - 9
    assert all(gap > 0.45 for gap in gaps)


async def test_whoever_has_few_gets_the_next_permit_before_bulk(engine: Engine) -> None:
    """Caught: a tenant's one message waited behind all turns that a flood of another's had been given, for a minute."""
    leases, bucket = PermitRepository(engine.pool), Bucket.of(2)
    await leases.lease("a", bucket=bucket, wanted=1)
    refused = await leases.lease("a", bucket=bucket, wanted=1, rank=PermitRank.FEW)
    assert refused.count == 0
    await _time_passes(engine, refused.wait)
    assert (await leases.lease("a", bucket=bucket, wanted=5)).count == 0
    assert (await leases.lease("a", bucket=bucket, wanted=1, rank=PermitRank.FEW)).count == 1


async def test_the_high_lane_goes_before_those_that_have_few(engine: Engine) -> None:
    leases, bucket = PermitRepository(engine.pool), Bucket.of(2)
    await leases.lease("a", bucket=bucket, wanted=1)
    for rank in (PermitRank.FEW, PermitRank.HIGH):
        refused = await leases.lease("a", bucket=bucket, wanted=1, rank=rank)
    await _time_passes(engine, refused.wait)
    assert (await leases.lease("a", bucket=bucket, wanted=1, rank=PermitRank.FEW)).count == 0
    assert (await leases.lease("a", bucket=bucket, wanted=1, rank=PermitRank.HIGH)).count == 1


async def test_a_flood_over_a_slow_account_holds_up_no_other_tenant(engine: Engine) -> None:
    """Caught: with 6,000 of another tenant over an account of 20 a second, one message in two waited for 20 s."""
    limited = Permits(PermitRepository(engine.pool), account="memory-email", rate_per_second=2)
    provider = MemoryProvider()
    work = activities(engine, accounts=Accounts([Account("memory-email", provider, Slots(4), permits=limited)]))
    await engine.accepted(FEW + 60, tenant="noisy")
    flood = await engine.grouped()
    await work.deliver(drive(flood))
    sent = len(provider.sent)
    [quiet] = await engine.accepted(1, tenant="quiet")
    few = await engine.grouped()
    await work.deliver(drive(few))
    await engine.pool.execute("UPDATE work SET due_at = now() WHERE due_at < now() + interval '30 seconds'")
    await _time_passes(engine, timedelta(seconds=0.501))
    await engine.pool.execute("UPDATE permit SET few_owed_until = few_owed_until + interval '30 seconds'")
    await work.deliver(drive(flood, "memory-email"))
    assert len(provider.sent) == sent, "the next one is kept for the other tenant"
    await work.deliver(drive(few, "memory-email"))
    assert [message.notification_id for message in provider.sent[sent:]] == [quiet]


async def test_a_cohort_of_many_stays_for_the_next_permit(engine: Engine) -> None:
    """Caught: it was put off, and came back when the one permit that the bucket holds had long been there: half of 10 a
    second ran over."""
    limited = Permits(PermitRepository(engine.pool), account="memory-email", rate_per_second=2)
    provider = MemoryProvider()
    work = activities(engine, accounts=Accounts([Account("memory-email", provider, Slots(4), permits=limited)]))
    await engine.accepted(FEW + 10)
    flood = await engine.grouped()
    await work.deliver(drive(flood))
    assert len(provider.sent) >= 2
    assert await engine.pool.fetchval("SELECT count(*) FROM work WHERE due_at > now()") > FEW, "but not for all of them"


async def _time_passes(engine: Engine, time: timedelta) -> None:
    """For the buckets."""
    columns = ("filled_at", "owed_until", "few_owed_until", "bulk_next_until", "booked_until")
    await engine.pool.execute(f"UPDATE permit SET {', '.join(f'{c} = {c} - $1::interval' for c in columns)}", time)
