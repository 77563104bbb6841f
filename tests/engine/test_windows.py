"""Sending windows from the plan to the hand-over, and where a notification's time ran out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from domain.channels import Channel
from domain.lanes import FEW, POLICIES, Lane
from domain.quiet_hours import QuietHours
from domain.results import ResultClass, SendResult
from domain.windows import RECIPIENT, TENANT
from tests.engine.driving import handed_over
from tests.engine.support import RETRY, Engine, soon, window
from tests.engine.support import TENANT as ACME

LONG = timedelta(hours=30)


OPEN, _ = window(opens_in=-1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def low(engine: Engine, options: str, **fields: Any) -> Any:
    return await engine.planned(1, lane=Lane.LOW, options=options, **{"expires_in": LONG, **fields})


async def test_it_waits_in_its_row_for_the_opening_and_the_timeline_says_until_when(engine: Engine) -> None:
    """No workflow and no slot is held meanwhile: the cohort ends and the row has a due time."""
    options, start = window(opens_in=2)
    cohort, [one] = await low(engine, options)
    said = (await engine.detail(one, "planned"))["put_off"]
    assert said["reason"] == "window"
    assert at(said["until"]).astimezone(UTC).time() == start
    assert await engine.claim(cohort) == []
    assert await engine.cohorts.leave(cohort, horizon=POLICIES[Lane.LOW].hold_horizon) == {}
    [row] = await engine.work(one)
    assert (row["cohort"], row["due_at"]) == (None, at(said["until"]))
    assert await engine.pool.fetchval("SELECT count(*) FROM cohort") == 0


async def test_an_open_window_holds_up_nothing(engine: Engine) -> None:
    cohort, [one] = await low(engine, OPEN)
    assert "put_off" not in await engine.detail(one, "planned")
    await handed_over(engine, cohort, engine.accounts)
    assert (await engine.end(one))[0] == "sent"


@pytest.mark.parametrize(("person", "tenant", "zone"), [
    ("Asia/Shanghai", "America/New_York", RECIPIENT),
    ("", "Asia/Shanghai", RECIPIENT),
    ("America/New_York", "Asia/Shanghai", TENANT),
    ("America/New_York", "", "Asia/Shanghai"),
])  # fmt: skip
async def test_it_goes_by_the_right_clock_in_the_plan_and_at_the_claim(
    engine: Engine, person: str, tenant: str, zone: str
) -> None:
    """The recipient's, else the tenant's; each time the window is open in Shanghai alone, or closed there alone."""
    await engine.person("u-1")
    await engine.pool.execute("UPDATE person SET time_zone = $1", person)
    await engine.pool.execute("UPDATE tenant SET time_zone = $2 WHERE id = $1", ACME, tenant)
    open_there, _ = window(opens_in=-1, zone=zone, clock="Asia/Shanghai")
    cohort, [one] = await low(engine, open_there, user="u-1")
    assert "put_off" not in await engine.detail(one, "planned")
    [claim] = await engine.claim(cohort)
    assert claim.put_off is None
    closed_there, start = window(opens_in=2, zone=zone, clock="Asia/Shanghai")
    _, [two] = await low(engine, closed_there, user="u-1")
    until = at((await engine.detail(two, "planned"))["put_off"]["until"])
    assert until.astimezone(ZoneInfo("Asia/Shanghai")).time() == start


async def test_a_retry_after_its_end_waits_for_the_next_opening(engine: Engine) -> None:
    """Catches: a window that only the plan looks at. What was answered before stays on record."""
    cohort, [one] = await low(engine, OPEN)
    await engine.answer(await engine.claim(cohort), RETRY)
    await engine.make_due()
    closed, start = window(opens_in=2)
    await engine.pool.execute("UPDATE notification SET options = $1", closed)
    await handed_over(engine, cohort, engine.accounts)
    assert engine.providers[Channel.EMAIL].sent == []
    said = await engine.detail(one, "put_off")
    [row] = await engine.work(one)
    assert (said["reason"], said["channel"], at(said["until"])) == ("window", "email", row["due_at"])
    assert row["due_at"].astimezone(UTC).time() == start
    assert (row["state"], row["failures"]) == (0, 1)


async def test_what_was_hurried_into_the_high_lane_does_not_wait(engine: Engine) -> None:
    closed, _ = window(opens_in=2)
    cohort, [one] = await engine.planned(1, lane=Lane.HIGH, options=closed, expires_in=LONG)
    await handed_over(engine, cohort, engine.accounts)
    assert (await engine.end(one))[0] == "sent"


async def test_with_quiet_hours_it_waits_for_a_moment_that_suits_both(engine: Engine) -> None:
    here = datetime.now(UTC).replace(second=0, microsecond=0)
    quiet = QuietHours((here - timedelta(hours=1)).time(), (here + timedelta(hours=3)).time())
    await engine.prefers(quiet_hours=quiet)
    options, _ = window(opens_in=2)
    _, [one] = await low(engine, options, user="u-1")
    said = (await engine.detail(one, "planned"))["put_off"]
    assert (said["reason"], at(said["until"]).time()) == ("quiet_hours", quiet.end)


async def test_a_window_that_cannot_be_read_holds_up_nothing(engine: Engine) -> None:
    """After a roll-back: the rest of the row is in order."""
    cohort, _ = await low(engine, '{"window": {"from": "sunset"}}')
    assert len(await engine.claim(cohort)) == 1


async def test_what_is_due_when_it_opens_is_grouped_as_usual(engine: Engine) -> None:
    """Catches: the opening as a flood. Cohorts are bounded and tenants take turns, as for whatever else is due at once."""
    options, _ = window(opens_in=2)
    for tenant, count in (("loud", FEW + 1), ("quiet", 1)):
        await engine.accepted(count, lane=Lane.LOW, tenant=tenant, options=options, expires_in=LONG)
        cohort = await engine.grouped(Lane.LOW)
        await engine.plan(cohort)
        await engine.cohorts.leave(cohort, horizon=timedelta(0))
    assert await engine.cohorts.group(Lane.LOW) is None, "nothing is due before"
    await engine.make_due()
    cohorts = [await engine.grouped(Lane.LOW), await engine.grouped(Lane.LOW)]
    assert {(c.tenant, c.size) for c in cohorts} == {("loud", FEW + 1), (None, 1)}


async def test_the_timeline_says_at_which_stage_the_time_ran_out(engine: Engine) -> None:
    """Before its turn, in its plan, about to be handed over, before the next attempt: each is not sent, and says so."""
    _, [queued] = await engine.planned(1, expires_at=soon(-1))
    closed, _ = window(opens_in=2)
    _, [planned] = await low(engine, closed, expires_in=timedelta(hours=1))
    cohort, [claimed] = await engine.planned(1)
    await engine.pool.execute("UPDATE work SET expires_at = now() WHERE notification_id = $1", claimed)
    await handed_over(engine, cohort, engine.accounts)
    cohort, [retried] = await engine.planned(1, expires_in=timedelta(seconds=30))
    later = SendResult(ResultClass.RATE, retry_after=timedelta(minutes=1))
    await engine.answer(await engine.claim(cohort), later)
    stages = {
        queued: ("queued", "expired_before_plan"), planned: ("planned", "expired_outside_window"),
        claimed: ("hand_over", "expired_before_hand_over"), retried: ("retry", "expired_before_retry"),
    }  # fmt: skip
    for one, (stage, reason) in stages.items():
        said = await engine.detail(one, "expired")
        assert (said["stage"], said["reason"]) == (stage, reason)
        assert await engine.end(one) == ("expired", reason, True)
    assert engine.providers[Channel.EMAIL].sent == []
