"""Grouping: what is due becomes cohorts, fairly and within bounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.lanes import POLICIES, STARTING_FOR, Lane, LanePolicy
from infra.postgres.engine import cohorts
from infra.postgres.engine.due import MOST_TURNS, QUARTER, tenants_due
from tests.engine.gates import done_or_blocked
from tests.engine.support import Engine, soon

HIGH, LOW = Lane.HIGH, Lane.LOW


def small(lane: Lane, *, size: int = 6, most_open: int = 100, starting: int = 100) -> LanePolicy:
    """In the lower lanes nobody has few: each tenant has cohorts of its own."""
    few = POLICIES[lane].mixes_up_to and 0
    return replace(POLICIES[lane], cohort_size=size, cohorts_open=most_open, cohorts_starting=starting, mixes_up_to=few)


async def shares(engine: Engine, cohort: UUID) -> Counter[str]:
    rows = await engine.pool.fetch("SELECT tenant FROM work WHERE cohort = $1", cohort)
    return Counter(row["tenant"] for row in rows)


async def test_nothing_due_makes_no_cohort(engine: Engine) -> None:
    """An empty cohort would start a workflow for nothing, again and again."""
    await engine.accepted(2, lane=HIGH, send_at=soon(60))
    await engine.accepted(2, lane=LOW)
    assert await engine.cohorts.group(HIGH) is None
    assert await engine.pool.fetchval("SELECT count(*) FROM cohort") == 0


async def test_tenants_take_turns_in_the_high_lane(engine: Engine) -> None:
    """Catches: one queue for all. The tenant who came first with a thousand alerts would hold up everybody's OTP."""
    await engine.accepted(20, lane=HIGH, tenant="loud")
    await engine.accepted(3, lane=HIGH, tenant="quiet")
    await engine.accepted(1, lane=HIGH, tenant="tiny")
    cohort = await engine.cohorts.group(HIGH, policy=small(HIGH))
    assert cohort is not None
    assert cohort.tenant is None
    assert await shares(engine, cohort.id) == {"loud": 2, "quiet": 2, "tiny": 1}
    assert cohort.size == 5


async def test_more_tenants_than_places(engine: Engine) -> None:
    """Each gets one place at most, and nobody's row is lost."""
    for place in range(8):
        await engine.accepted(2, lane=HIGH, tenant=f"t{place}")
    seen: Counter[str] = Counter()
    while cohort := await engine.cohorts.group(HIGH, policy=small(HIGH)):
        seen += await shares(engine, cohort.id)
    assert seen == {f"t{place}": 2 for place in range(8)}


async def test_what_other_tenants_send_later_shrinks_no_cohort(engine: Engine) -> None:
    """Catches: shares counted over all tenants who have work. A hundred tenants with sends planned for the same quarter of
    an hour would leave the one of now one place in a hundred."""
    for place in range(10):
        await engine.accepted(3, lane=HIGH, tenant=f"later{place}")
    end_of_quarter = f"{QUARTER.format(at='now()')} + interval '14 minutes 59.999 seconds'"
    await engine.pool.execute(f"UPDATE work SET due_at = {end_of_quarter}")
    await engine.accepted(6, lane=HIGH, tenant="now")
    cohort = await engine.cohorts.group(HIGH, policy=small(HIGH))
    assert cohort is not None
    assert await shares(engine, cohort.id) == {"now": 6}


async def test_other_lanes_have_one_tenant_a_cohort(engine: Engine) -> None:
    """Catches: mixed cohorts in bulk lanes. Temporal's fairness goes by the cohort's tenant."""
    await engine.accepted(4, lane=LOW, tenant="a")
    await engine.accepted(4, lane=LOW, tenant="b")
    made = [await engine.cohorts.group(LOW, policy=small(LOW)) for _ in range(3)]
    assert [c.tenant if c else None for c in made] == ["a", "b", None]
    for cohort in made[:2]:
        assert cohort is not None
        assert await shares(engine, cohort.id) == {cohort.tenant: 4}


async def test_the_tenant_with_the_fewest_cohorts_under_way_is_next(engine: Engine) -> None:
    """Catches: first come first served. A campaign of a million would take every place before the second tenant has one."""
    await engine.accepted(30, lane=LOW, tenant="loud")
    await engine.accepted(1, lane=LOW, tenant="quiet")
    order = []
    for _ in range(3):
        cohort = await engine.cohorts.group(LOW, policy=small(LOW))
        assert cohort is not None
        order.append(cohort.tenant)
    assert order == ["loud", "quiet", "loud"]


async def test_a_lane_has_a_bound_of_cohorts_and_holding_ones_do_not_count(engine: Engine) -> None:
    """Catches: no bound (PostgreSQL's rows become Temporal's backlog, first come first served), and a bound that counts
    cohorts which merely wait: a few slow providers would stop the lane."""
    policy = small(LOW, size=1, most_open=2)
    await engine.accepted(5, lane=LOW)
    await engine.accepted(1, lane=HIGH)
    first, second = [await engine.cohorts.group(LOW, policy=policy) for _ in range(2)]
    assert first is not None
    assert second is not None
    assert await engine.cohorts.group(LOW, policy=policy) is None
    assert await engine.cohorts.group(HIGH, policy=small(HIGH, most_open=1)) is not None
    await engine.pool.execute("UPDATE cohort SET holding = true WHERE id = $1", first.id)
    assert await engine.cohorts.group(LOW, policy=policy) is not None
    assert await engine.cohorts.group(LOW, policy=policy) is None


async def test_what_comes_while_cohorts_start_forms_a_larger_one(engine: Engine) -> None:
    """Catches: a cohort for every few messages while Temporal is still starting the last ones. Each costs tens of
    milliseconds: at 200 messages a second two cores were full, and everybody waited a second."""
    policy = small(HIGH, starting=1)
    await engine.accepted(1, lane=HIGH)
    first = await engine.cohorts.group(HIGH, policy=policy)
    await engine.accepted(4, lane=HIGH)
    assert first is not None
    assert await engine.cohorts.group(HIGH, policy=policy) is None
    await engine.admission.enter(first, limit=9)  # it has begun: however slow its receivers are, others go on
    second = await engine.cohorts.group(HIGH, policy=policy)
    assert second is not None
    assert second.size == 4


async def test_a_cohort_that_never_begins_holds_up_nobody_for_long(engine: Engine) -> None:
    """Catches: a worker that is killed while its cohorts start stops the lane until they are driven again."""
    policy = small(HIGH, starting=1)
    await engine.accepted(1, lane=HIGH)
    assert await engine.cohorts.group(HIGH, policy=policy) is not None
    await engine.accepted(1, lane=HIGH)
    await engine.pool.execute("UPDATE cohort SET created_at = now() - $1::interval", STARTING_FOR)
    assert await engine.cohorts.group(HIGH, policy=policy) is not None


async def test_groupers_at_once_never_share_a_row(engine: Engine) -> None:
    """Catches: no lock in the pick. API processes, workers and the sweep all group; a row in two cohorts is driven by the
    last one only, and the other's workflow runs for nothing."""
    await engine.accepted(40, lane=HIGH, tenant="a")
    await engine.accepted(40, lane=LOW, tenant="a")
    made = await asyncio.gather(*[engine.cohorts.group(lane, policy=small(lane, size=7)) for lane in (HIGH, LOW) * 8])
    sizes = sum(c.size for c in made if c is not None)
    assert sizes == await engine.pool.fetchval("SELECT count(*) FROM work WHERE cohort IS NOT NULL")


async def test_a_grouper_passes_by_what_another_is_just_taking(engine: Engine) -> None:
    """Catches: FOR UPDATE without SKIP LOCKED, and no lock at all: it would wait for the other, or take the same rows."""
    ids = await engine.accepted(3, lane=HIGH)
    async with engine.pool.acquire() as other, other.transaction():
        await other.execute("SELECT 1 FROM work WHERE notification_id = $1 FOR UPDATE", ids[0])
        grouping = asyncio.create_task(engine.cohorts.group(HIGH))
        await done_or_blocked(engine.pool, grouping)
        assert grouping.done()
        cohort = await grouping
        assert cohort is not None
        assert cohort.size == 2
        rows = await engine.work()
    assert [r["notification_id"] for r in rows if r["cohort"] is None] == [ids[0]]


async def test_the_oldest_come_first(engine: Engine) -> None:
    """Otherwise a notification could wait for ever in a lane that is never empty."""
    late = await engine.accepted(3, lane=LOW)
    early = await engine.accepted(3, lane=LOW)
    await engine.pool.execute("UPDATE work SET due_at = now() - interval '1 hour' WHERE notification_id = ANY ($1)", early)
    cohort = await engine.cohorts.group(LOW, policy=small(LOW, size=3))
    assert cohort is not None
    taken = [r["notification_id"] for r in await engine.work() if r["cohort"] == cohort.id]
    assert sorted(taken) == sorted(early)
    assert sorted(late) == sorted(r["notification_id"] for r in await engine.work() if r["cohort"] is None)


async def test_a_cohort_is_written_before_its_workflow_starts(engine: Engine) -> None:
    """Catches: start first. The workflow would find nothing; or the process dies in between, and the lease is what finds
    the cohort again."""
    await engine.accepted(2, lane=HIGH)
    cohort = await engine.grouped(HIGH)
    row = await engine.pool.fetchrow(
        "SELECT epoch, size, holding, lease > now() AS leased FROM cohort WHERE id = $1", cohort.id
    )
    assert row is not None
    assert tuple(row) == (1, 2, False, True)


async def test_a_tenant_leaves_room_for_those_who_come_later(engine: Engine) -> None:
    """Catches: turns alone. Who floods an empty lane has every place before a second tenant comes, who then waits until a
    whole cohort has been delivered."""
    policy = replace(small(LOW, size=1, most_open=3), cohorts_of_tenant=2)
    await engine.accepted(9, lane=LOW, tenant="loud")
    made = [await engine.cohorts.group(LOW, policy=policy) for _ in range(3)]
    assert [c.tenant if c else None for c in made] == ["loud", "loud", None]
    await engine.accepted(1, lane=LOW, tenant="quiet")
    found = await engine.cohorts.group(LOW, policy=policy)
    assert found is not None
    assert found.tenant == "quiet"
    assert made[0] is not None
    await engine.pool.execute("DELETE FROM cohort WHERE id = $1", made[0].id)
    assert await engine.cohorts.group(LOW, policy=policy) is not None, "one of its own has ended"
    assert all(0 < p.cohorts_of_tenant < p.cohorts_open for p in POLICIES.values() if p.mixes_up_to is not None)


async def test_tenants_whose_rows_are_due_later_cost_a_grouper_nothing(engine: Engine) -> None:
    """Caught: every grouping met every tenant with a row in the lane: 0.17 s with 5,000 that had scheduled something."""
    for place in range(40):
        await engine.accepted(2, tenant=f"later-{place}", send_at=soon(86_400))
    await engine.accepted(1, tenant="now")
    [found] = await engine.pool.fetch(
        "EXPLAIN (ANALYZE, FORMAT JSON) " + tenants_due() + " SELECT count(*) FROM due", int(Lane.MEDIUM)
    )
    rows = {plan["Subplan Name"]: plan["Actual Rows"] for plan in _plans(msgspec.json.decode(found[0])[0]["Plan"])}
    assert (rows["CTE turns"], rows["CTE everyone"], rows["CTE due"]) == (1, 0, 1)


def _plans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [found for child in plan.get("Plans", []) for found in _plans(child)]
    return [plan, *inner] if "Subplan Name" in plan else inner


async def test_a_backlog_of_hours_hides_no_tenant(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a walk that ends at its bound. Whoever came last would wait until the hours before are done."""
    few = cohorts._GROUP_FEW.replace(f" {MOST_TURNS}", " 3")
    assert few != cohorts._GROUP_FEW
    monkeypatch.setattr(cohorts, "_GROUP_FEW", few)
    for place in range(8):
        await engine.accepted(2, tenant=f"t-{place}")
    await engine.pool.execute("UPDATE work SET due_at = due_at - interval '1 hour' WHERE tenant < 't-4'")
    assert (await engine.grouped()).size == 16


async def test_of_many_quarters_each_tenant_is_met_once(engine: Engine) -> None:
    """Catches: a tenant that is counted for each quarter of an hour in which it has something, and its share with it."""
    ids = await engine.accepted(12, tenant="a")
    for place, one in enumerate(ids):
        await engine.pool.execute(
            "UPDATE work SET due_at = due_at - $2::interval WHERE notification_id = $1", one, timedelta(hours=place)
        )
    await engine.accepted(2, tenant="b")
    assert (await engine.grouped()).size == 14
