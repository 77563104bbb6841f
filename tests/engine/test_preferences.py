"""Preferences from the plan to the hand-over: what was chosen is looked at in the plan, and again at the claim."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from activities.cohorts.planning import Planner
from domain.channels import Channel
from domain.lanes import Lane
from domain.preferences import Cap, CategoryChoice
from domain.quiet_hours import QuietHours
from domain.rechecks import Verdict
from infra.postgres.engine import caps, locks, plans
from infra.postgres.engine.plans import PlanRepository
from tests.engine.driving import handed_over
from tests.engine.gates import Gate, gated
from tests.engine.support import PERMANENT, RETRY, Engine, soon

BOTH = (Channel.EMAIL, Channel.WEBHOOK)
NO_EMAIL: dict[str, Any] = {"channels": {"email": False}}
NO_ORDERS: dict[str, Any] = {"categories": {"orders": CategoryChoice(enabled=False)}}


def night(zone: str = "UTC") -> QuietHours:
    """Quiet hours that hold now and for about two hours."""
    here = datetime.now(ZoneInfo(zone)).replace(second=0, microsecond=0)
    start, end = here - timedelta(hours=1), here + timedelta(hours=2)
    return QuietHours(start.time(), end.time())


async def test_the_plan_drops_what_was_opted_out_of(engine: Engine) -> None:
    await engine.prefers(channels={"email": False, "webhook": False}, categories={
        "orders": CategoryChoice(None, {"webhook": True}), "marketing": CategoryChoice(enabled=False)})  # fmt: skip
    _, [orders] = await engine.planned(1, user="u-1", channels=[*BOTH, Channel.INAPP])
    _, [marketing] = await engine.planned(1, user="u-1", channels=[Channel.INAPP], category="marketing")
    assert [r["channel"] for r in await engine.work(orders)] == ["webhook", "inapp"]
    assert await engine.deliveries(orders) == {"email": ("suppressed", "opted_out")}
    drops = [{"channel": "email", "status": "suppressed", "reason": "opted_out"}]
    assert (await engine.detail(orders, "planned"))["drops"] == drops
    assert await engine.end(marketing) == ("suppressed", "opted_out", True)


async def test_another_tenants_person_of_the_same_id_has_chosen_nothing(engine: Engine) -> None:
    await engine.prefers(**NO_EMAIL)
    cohort, _ = await engine.planned(1, user="u-1", tenant="other", channels=[Channel.EMAIL])
    [claim] = await engine.claim(cohort)
    assert claim.verdict is Verdict.SEND


async def test_users_without_preferences_cost_no_statement(engine: Engine) -> None:
    """Catches: a query a row, and one for everybody because of some. The choices come with the persons; only where there
    are any it is asked which categories are mandatory, and only where there are caps what counts against them."""

    async def statements() -> list[str]:
        await engine.accepted(5, user="u-1", channels=BOTH)
        await engine.accepted(5, user="u-2", channels=BOTH)
        cohort, gate = await engine.grouped(), Gate("nothing")
        planner = Planner(PlanRepository(gated(engine.pool, gate)), engine.accounts)
        found = await engine.admission.enter(cohort, limit=100)
        assert found is not None
        assert (await planner.plan(cohort, unplanned=found.unplanned, now=found.now)).count == 10
        return gate.seen

    plain = [plans._PERSONS, locks._LOCK, plans._WRITE]
    assert await statements() == plain
    await engine.prefers(channels={"email": False})
    assert await statements() == [plain[0], plans._MANDATORY, *plain[1:]]
    await engine.prefers(channel_caps={"email": Cap(900, timedelta(days=1))})
    assert await statements() == [plain[0], plans._MANDATORY, plain[1], caps._LOCK, caps._USES, plain[2], caps._TAKE]


async def test_preferences_that_cannot_be_read_permit_nothing(engine: Engine) -> None:
    """They may be an opt-out: the person's notifications end, those of others go on."""
    await engine.prefers(**NO_EMAIL)
    await engine.pool.execute("""UPDATE preference SET choices = '{"channels": {"email": "perhaps"}}'""")
    [bad, good] = [*await engine.accepted(1, user="u-1"), *await engine.accepted(1, user="u-2")]
    await engine.plan(await engine.grouped())
    assert await engine.end(bad) == ("suppressed", "opted_out", True)
    assert [r["notification_id"] for r in await engine.work()] == [good]


async def test_an_opt_out_between_plan_and_hand_over_stops_it(engine: Engine) -> None:
    """Catches: a claim that trusts the plan."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.prefers(**NO_ORDERS)
    await handed_over(engine, cohort, engine.accounts)
    assert engine.providers[Channel.EMAIL].sent == []
    assert await engine.deliveries(one) == {"email": ("suppressed", "opted_out")}
    assert await engine.end(one) == ("suppressed", "opted_out", True)
    stopped = await engine.detail(one, "suppressed")
    assert stopped == {"channel": "email", "reason": "opted_out", "stage": "hand_over"}


@pytest.mark.parametrize(
    ("chosen", "next_channel"),
    [
        (NO_EMAIL, "webhook"),
        (NO_ORDERS, None),
        ({"categories": {"orders": CategoryChoice(False, {"webhook": True})}}, "webhook"),
        ({"channels": {"email": False, "webhook": False}}, None),
    ],
)
async def test_a_chain_goes_on_after_an_opt_out_only_where_something_is_permitted(
    engine: Engine, chosen: dict[str, Any], next_channel: str | None
) -> None:
    """Who left the category is not asked again on the next channel."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=BOTH, strategy="fallback")
    await engine.prefers(**chosen)
    await handed_over(engine, cohort, engine.accounts)
    assert [r["channel"] for r in await engine.work(one)] == ([next_channel] if next_channel else [])
    assert ("fallback" in await engine.events(one)) is (next_channel is not None)
    assert (await engine.end(one))[2] is (next_channel is None)


async def test_what_is_mandatory_is_sent_all_the_same(engine: Engine) -> None:
    """An opt-out before the plan, and one after it; a frequency cap too."""
    await engine.prefers(channels={"email": False}, category_caps={"orders": Cap(0, timedelta(days=1))})
    await engine.make_mandatory()
    cohort, [one] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.prefers(**NO_ORDERS)
    await handed_over(engine, cohort, engine.accounts)
    assert len(engine.providers[Channel.EMAIL].sent) == 1
    assert await engine.end(one) == ("sent", None, True)


async def test_the_preferred_channel_is_tried_first_and_the_rest_follows(engine: Engine) -> None:
    await engine.prefers(preferred=("inapp", "webhook"))
    cohort, [one] = await engine.planned(1, user="u-1", channels=[*BOTH, Channel.INAPP], strategy="preferred")
    tried: list[str] = []
    while rows := await engine.work(one):
        [row] = rows
        tried.append(row["channel"])
        await engine.answer(await engine.claim(cohort, Channel(row["channel"])), PERMANENT)
    assert tried == ["inapp", "webhook", "email"]
    assert await engine.end(one) == ("failed", "content_refused", True)


async def test_quiet_hours_put_the_steps_off_and_the_timeline_says_until_when(engine: Engine) -> None:
    """In the person's time zone, by the database's clock."""
    quiet = night("Asia/Shanghai")
    await engine.prefers(time_zone="Asia/Shanghai", quiet_hours=quiet)
    cohort, [one] = await engine.planned(1, user="u-1", channels=BOTH, expires_in=timedelta(hours=9))
    until = datetime.fromisoformat((await engine.detail(one, "planned"))["put_off"]["until"])
    assert until.astimezone(ZoneInfo("Asia/Shanghai")).time() == quiet.end
    assert {r["due_at"] for r in await engine.work(one)} == {until}
    assert await engine.claim(cohort) == []
    _, [urgent] = await engine.planned(1, user="u-1", lane=Lane.HIGH, expires_in=timedelta(hours=9))
    assert [r["due_at"] < soon(60) for r in await engine.work(urgent)] == [True]


async def test_what_expires_in_quiet_hours_ends_as_that(engine: Engine) -> None:
    await engine.prefers(quiet_hours=night())
    _, [one] = await engine.planned(1, user="u-1", expires_in=timedelta(minutes=5))
    assert await engine.end(one) == ("expired", "expired_in_quiet_hours", True)


async def test_a_retry_in_quiet_hours_waits_for_their_end(engine: Engine) -> None:
    """What the provider had answered stays on record: it was handed over once, and can no longer be edited."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL], expires_in=timedelta(hours=9))
    await engine.answer(await engine.claim(cohort), RETRY)
    await engine.make_due()
    await engine.prefers(quiet_hours=night())
    await handed_over(engine, cohort, engine.accounts)
    assert engine.providers[Channel.EMAIL].sent == []
    [row] = await engine.work(one)
    said = await engine.detail(one, "put_off")
    assert (said["reason"], datetime.fromisoformat(said["until"])) == ("quiet_hours", row["due_at"])
    assert (row["state"], row["failures"], row["due_at"] > soon(3600)) == (0, 1, True)
    record = await engine.pool.fetchrow("SELECT status, class, attempts FROM delivery")
    assert record is not None
    assert tuple(record) == ("retrying", "RETRY", 1)


async def test_a_claim_whose_quiet_hours_end_too_late_ends_as_that(engine: Engine) -> None:
    cohort, [one] = await engine.planned(1, user="u-1", channels=BOTH, strategy="fallback", expires_in=timedelta(minutes=5))
    await engine.prefers(quiet_hours=night())
    await handed_over(engine, cohort, engine.accounts)
    assert await engine.end(one) == ("expired", "expired_in_quiet_hours", True)
    assert "fallback" not in await engine.events(one)


async def test_a_cancelled_claim_is_not_put_off(engine: Engine) -> None:
    """It was claimed, and cancelled while it was looked at: the timeline does not promise a time."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL], expires_in=timedelta(hours=9))
    await engine.prefers(quiet_hours=night())
    [claim] = await engine.claim(cohort)
    await engine.control.cancel("acme", notification_id=one)
    await engine.flush(engine.decider(cohort).stopped(claim))
    assert await engine.end(one) == ("cancelled", "cancelled_by_request", True)
    assert "put_off" not in await engine.events(one)
