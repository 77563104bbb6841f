"""Who gets how much of an account with a rate, by a clock that the test sets: nobody starves, nothing is lost, and no
second sees more than the rate."""

from __future__ import annotations

import pytest

from domain.permits import Bucket, PermitRank
from tests.engine.sharing import Account, Asker, Bulk, shared
from tests.engine.support import Engine

RATES = [1, 2, 5, 8, 10, 15, 20, 50, 200]
HIGH, FEW, BULK = PermitRank
ENDLESS_FEW = Asker(FEW)


def cohorts(count: int, *, late_s: float = 0.02, stays: bool = True) -> list[Asker]:
    return [Bulk(first_s=0.2 * n / count, late_s=late_s, stays=stays) for n in range(1, count + 1)]


def seconds(rate: float) -> float:
    return max(10.0, min(60.0, 100 / rate))


def assert_all_used(account: Account, rate: float) -> None:
    """All that the bucket gave, but for what they are late for, and no more than the rate in any second."""
    there_were = seconds(rate) * Bucket.of(rate).per_second
    assert account.had.total() == pytest.approx(there_were, rel=0.05, abs=2)
    assert account.fullest_second <= rate


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [1, 3])
async def test_bulk_has_half_beside_endless_few(engine: Engine, rate: float, count: int) -> None:
    """Caught: a twentieth of 10 a second. What few left to it ran over until it looked; so they left it nothing."""
    account = await shared(engine, rate, [ENDLESS_FEW, *cohorts(count)], for_s=seconds(rate))
    assert account.share_of(BULK) == pytest.approx(0.5, abs=0.03)
    assert_all_used(account, rate)


@pytest.mark.parametrize("rate", RATES)
async def test_bulk_that_is_late_for_the_next_permit_has_half(engine: Engine, rate: float) -> None:
    """Catches: on a machine with much to do, few have each permit a moment before bulk asks again."""
    late = [Bulk(first_s=0.1 * n, late_for_next_s=0.06) for n in range(3)]
    account = await shared(engine, rate, [ENDLESS_FEW, *late], for_s=seconds(rate))
    assert account.share_of(BULK) == pytest.approx(0.5, abs=0.03)
    assert account.fullest_second <= rate


@pytest.mark.parametrize("count", [1, 3])
async def test_bulk_has_half_of_one_a_minute(engine: Engine, count: int) -> None:
    """Bulk stays for no permit that comes so late, and has it all the same."""
    account = await shared(engine, 1 / 60, [ENDLESS_FEW, *cohorts(count)], for_s=1800.0)
    assert account.had[BULK] == pytest.approx(15, abs=2)
    assert account.had.total() == pytest.approx(30, abs=2)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("askers", [cohorts(1), cohorts(3), [ENDLESS_FEW], [Asker(HIGH)]], ids=["1", "3", "few", "high"])
async def test_whoever_is_alone_loses_nothing(engine: Engine, rate: float, askers: list[Asker]) -> None:
    """Caught: a page of 400 messages over an account of 10 a second went at 5, for it looked every 200 ms and each time
    found the one permit that the bucket holds."""
    assert_all_used(await shared(engine, rate, askers, for_s=seconds(rate)), rate)


@pytest.mark.parametrize("rate", RATES[1:])
async def test_nothing_is_kept_for_bulk_that_does_not_stay(engine: Engine, rate: float) -> None:
    """Caught: a third of the rate ran over, left to bulk that came when the bucket had long been full."""
    late = cohorts(2, late_s=1.8, stays=False)
    account = await shared(engine, rate, [ENDLESS_FEW, *late], for_s=seconds(rate))
    assert account.had.total() >= 0.9 * seconds(rate) * Bucket.of(rate).per_second
    assert account.fullest_second <= rate


@pytest.mark.parametrize("rate", RATES)
async def test_few_and_the_high_lane_have_one_of_the_next_permits(engine: Engine, rate: float) -> None:
    """Now and then a message, beside bulk that takes all it can: it waits for what is granted ahead, and for its own."""
    every_s = max(1.0, 6 / rate)
    others = [Asker(rank, first_s=1 + n * every_s, messages=1) for n in range(9) for rank in (HIGH, FEW)]
    account = await shared(engine, rate, [*cohorts(3), *others], for_s=12 * every_s)
    spacing_s = 1 / Bucket.of(rate).per_second
    assert len(account.waited_s[HIGH]) == len(account.waited_s[FEW]) == 9
    assert max(account.waited_s[HIGH]) < 2 * spacing_s + 0.1
    assert max(account.waited_s[FEW]) < 3 * spacing_s + 0.1, "behind the other one"


@pytest.mark.parametrize("rate", RATES[1:])
@pytest.mark.parametrize("others", [[ENDLESS_FEW, *cohorts(1)], cohorts(1), [ENDLESS_FEW]], ids=["both", "bulk", "few"])
async def test_an_endless_high_lane_leaves_one_in_twenty(engine: Engine, rate: float, others: list[Asker]) -> None:
    """Catches: a flood of codes stops whatever else goes over the account, for as long as it lasts."""
    account = await shared(engine, rate, [Asker(HIGH, late_s=0.03), *others], for_s=2 * seconds(rate))
    assert 0.9 <= account.share_of(HIGH) <= 0.97
    for asker in others:
        assert account.had[asker.rank] >= 1
    assert account.fullest_second <= rate


@pytest.mark.parametrize(("before", "after"), [(200, 2), (20, 1), (10, 2), (2, 10), (1, 200)])
async def test_another_rate_holds_at_once(engine: Engine, before: int, after: int) -> None:
    """Catches: what was granted ahead at 200 a second is owed for ten seconds at 2, or a burst of what there was."""
    account = await shared(engine, lambda now_s: before if now_s < 5 else after, [ENDLESS_FEW, *cohorts(2)], for_s=25.0)
    late = [at_s for times in account.sent_s.values() for at_s in times if at_s >= 5.1]
    assert len(late) == pytest.approx(19.9 * Bucket.of(after).per_second, rel=0.05, abs=2)
    assert min(late) < 5.1 + 2 / min(before, after)


async def test_one_cohort_stays_for_the_next_permit(engine: Engine) -> None:
    """Catches: all of them do, and ask again for each that another one gets."""
    account = await shared(engine, 15, cohorts(8), for_s=10.0)
    others_look = 2 * 7 * 10.0 / 0.2
    assert account.statements[BULK] <= 3 * account.had[BULK] + others_look
