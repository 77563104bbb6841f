"""Permits of an account with a rate: who has the next one, and whose turn comes when."""

from __future__ import annotations

import heapq
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


async def test_cohorts_beside_each_other_are_given_turns_one_after_the_other(engine: Engine) -> None:
    """Caught: each gave its rows turns from now on, so that ten cohorts came back ten times as fast as the rate."""
    limited = Permits(PermitRepository(engine.pool), account="memory-email", rate_per_second=2)
    account = Account("memory-email", MemoryProvider(), Slots(4), permits=limited)
    work = activities(engine, accounts=Accounts([account]))
    for tenant in "abc":
        await engine.accepted(FEW + 1, tenant=tenant)
    for _ in "abc":
        await work.deliver(drive(await engine.grouped()))
    due = sorted(row["due_at"] for row in await engine.work())
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(due)]
    assert len(due) >= 3 * FEW
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


async def test_bulk_keeps_half_beside_those_that_have_few(engine: Engine) -> None:
    """Catches: a thousand tenants with few messages each leave nothing of the rate to anybody's bulk."""
    leases, bucket, had = PermitRepository(engine.pool), Bucket.of(2), {PermitRank.FEW: 0, PermitRank.BULK: 0}
    for _ in range(40):
        for rank in had:
            granted = await leases.lease("a", bucket=bucket, wanted=3, rank=rank)
            had[rank] += granted.count
            if rank is PermitRank.BULK and granted.count == 0:
                await leases.book("a", count=3, granted=granted)
        await _time_passes(engine, timedelta(seconds=0.501))
    assert had[PermitRank.BULK] == pytest.approx(20, abs=2)
    assert sum(had.values()) == pytest.approx(40, abs=1)


@pytest.mark.parametrize(
    ("bucket", "cohorts", "bulk"), [(Bucket(20, 18.1), 1, 0.35), (Bucket(2, 1.9), 3, 0.3), (Bucket(1, 1.0), 2, 0.02)]
)
async def test_few_have_what_bulk_does_not_come_for(engine: Engine, bucket: Bucket, cohorts: int, bulk: float) -> None:
    """Caught: a third of the rate ran over, kept for bulk that came when the bucket had long been full. All is ten times as
    slow as with the accounts and cohorts there are, so that the time that the test takes itself means little."""
    had = await _shared(engine, bucket, cohorts=cohorts, every_s=2.0, for_s=100.0)
    assert sum(had.values()) > 0.93 * 100.0 * bucket.per_second
    assert had[PermitRank.BULK] >= bulk * sum(had.values())


async def test_bulk_keeps_half_of_an_account_of_one_a_minute(engine: Engine) -> None:
    """Caught: the time until which few have had their half was taken for one of another clock."""
    had = await _shared(engine, Bucket(1, 1 / 60), cohorts=1, every_s=2.0, for_s=1800.0)
    assert had[PermitRank.BULK] == pytest.approx(15, abs=2)
    assert sum(had.values()) == pytest.approx(30, abs=2)


@pytest.mark.parametrize("rank", PermitRank)
async def test_whoever_is_alone_has_the_whole_rate(engine: Engine, rank: PermitRank) -> None:
    leases, bucket, had = PermitRepository(engine.pool), Bucket.of(2), 0
    for _ in range(40):
        had += (await leases.lease("a", bucket=bucket, wanted=3, rank=rank)).count
        await _time_passes(engine, timedelta(seconds=0.501))
    assert had == pytest.approx(40, abs=1)


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
    await work.deliver(drive(flood, "memory-email"))
    assert len(provider.sent) == sent, "the next one is kept for the other tenant"
    await work.deliver(drive(few, "memory-email"))
    assert [message.notification_id for message in provider.sent[sent:]] == [quiet]


async def _time_passes(engine: Engine, time: timedelta) -> None:
    """For the buckets."""
    columns = ("filled_at", "owed_until", "few_owed_until", "few_until", "booked_until")
    await engine.pool.execute(f"UPDATE permit SET {', '.join(f'{c} = {c} - $1::interval' for c in columns)}", time)


async def _shared(engine: Engine, bucket: Bucket, *, cohorts: int, every_s: float, for_s: float) -> dict[PermitRank, int]:
    """How many they get if those that have few come as soon as they may, and each cohort of bulk only `every_s`."""
    leases, had = PermitRepository(engine.pool), {PermitRank.FEW: 0, PermitRank.BULK: 0}
    of_bulk = [(every_s * n / cohorts, n, PermitRank.BULK) for n in range(1, cohorts + 1)]
    now_s, asks = 0.0, [(0.0, 0, PermitRank.FEW), *of_bulk]
    while asks[0][0] < for_s:
        at_s, n, rank = heapq.heappop(asks)
        await _time_passes(engine, timedelta(seconds=at_s - now_s))
        now_s, wait_s = at_s, every_s
        while (granted := await leases.lease("a", bucket=bucket, wanted=30, rank=rank)).count:
            had[rank] += granted.count
        if rank is PermitRank.BULK:
            await leases.book("a", count=1000, granted=granted)
        else:
            wait_s = granted.wait.total_seconds() + 0.001
        heapq.heappush(asks, (at_s + wait_s, n, rank))
    return had
