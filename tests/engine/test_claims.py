"""The claim: who has a row in hand, and what is looked at again in that moment."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from domain.channels import Channel
from domain.rechecks import Verdict
from infra.postgres.engine import claims as statements
from infra.postgres.engine.giving_back import Returned
from tests.engine.gates import done_or_blocked
from tests.engine.support import ADDRESSES, OK, RETRY, TENANT, Engine

OPT_OUT = (
    "INSERT INTO preference (tenant, person_id, app, choices) "
    f"""VALUES ('{TENANT}', 'u-1', 'shop', '{{"categories": {{"orders": {{"enabled": false}}}}}}')"""
)
QUIET_NOW = (
    "INSERT INTO preference (tenant, person_id, app, choices) SELECT tenant, id, 'shop', jsonb_build_object('quiet_hours', "
    "jsonb_build_object('start', to_char(now() AT TIME ZONE 'UTC' - interval '1 hour', 'HH24:MI:00'), "
    "'end', to_char(now() AT TIME ZONE 'UTC' + interval '1 hour', 'HH24:MI:00'))) FROM person"
)


async def test_two_overlapping_attempts_never_both_get_a_row(engine: Engine) -> None:
    """Catches: no lock in the pick and no `state = 0` in the UPDATE. The second attempt then waits for the first one's
    rows, gets them too, and everything is sent twice."""
    cohort, ids = await engine.planned(6)
    window = timedelta(seconds=5)
    async with engine.pool.acquire() as first:
        transaction = first.transaction()
        await transaction.start()
        held = await first.fetch(statements._CLAIM, cohort.id, 1, "memory-email", 4, window, window)
        assert len(held) == 4
        second = asyncio.create_task(engine.claim(cohort))
        await done_or_blocked(engine.pool, second)
        await transaction.commit()
    got = [row["notification_id"] for row in held] + [claim.notification_id for claim in await second]
    assert sorted(got) == sorted(ids)
    assert [row["attempt"] for row in await engine.work()] == [1] * 6


async def test_a_claim_does_not_wait_for_another(engine: Engine) -> None:
    """Catches: FOR UPDATE without SKIP LOCKED. One slow transaction would stall every account of the cohort."""
    cohort, ids = await engine.planned(3)
    async with engine.pool.acquire() as first, first.transaction():
        await first.execute("SELECT 1 FROM work WHERE notification_id = $1 FOR UPDATE", ids[0])
        second = asyncio.create_task(engine.claim(cohort))
        await done_or_blocked(engine.pool, second)
        assert second.done()
    assert sorted(c.notification_id for c in await second) == sorted(ids[1:])


async def test_an_old_epoch_claims_nothing(engine: Engine) -> None:
    """Catches: no epoch in the claim. A workflow that was given up would go on sending beside the one that replaced it."""
    cohort, _ = await engine.planned(2)
    new = await engine.redriven(cohort)
    assert await engine.claim(cohort) == []
    assert len(await engine.claim(new)) == 2


async def test_a_claim_takes_only_what_is_due_on_its_channel(engine: Engine) -> None:
    """Otherwise a retry would come before its time, or a message go out through another channel's provider."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK])
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '1 minute' WHERE channel = 'webhook'")
    assert await engine.claim(cohort, Channel.WEBHOOK) == []
    [claim] = await engine.claim(cohort, Channel.EMAIL)
    assert (claim.notification_id, claim.address) == (one, ADDRESSES[Channel.EMAIL])


async def test_a_claim_is_no_larger_than_asked_for(engine: Engine) -> None:
    """Rows beyond the free slots would wait in the hand of a process that may be killed."""
    cohort, _ = await engine.planned(5)
    assert len(await engine.claim(cohort, limit=2)) == 2
    assert sum(row["state"] for row in await engine.work()) == 2


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("UPDATE work SET expires_at = now()", Verdict.EXPIRED),
        ("UPDATE person SET state = 'deactivated'", Verdict.GONE),
        ("DELETE FROM person", Verdict.GONE),
        (
            "INSERT INTO suppression (tenant, channel, address, reason) "
            f"VALUES ('{TENANT}', 'email', '{ADDRESSES[Channel.EMAIL]}', 'complaint')",
            Verdict.SUPPRESSED,
        ),
        (OPT_OUT, Verdict.OPTED_OUT),
        (QUIET_NOW, Verdict.NOT_NOW),
        ("UPDATE notification SET version = version + 1", Verdict.STALE),
        ("UPDATE notification SET cancelled_at = now()", Verdict.CANCELLED),
        ("SELECT 1", Verdict.SEND),
    ],
)
async def test_what_changed_since_the_plan_is_seen(engine: Engine, change: str, verdict: Verdict) -> None:
    """Catches: a claim that trusts the plan. Between the two lie minutes, in which people opt out, leave and cancel."""
    cohort, _ = await engine.planned(1, user="u-1", channels=[Channel.EMAIL])
    await engine.pool.execute(change)
    [claim] = await engine.claim(cohort)
    assert claim.verdict is verdict


async def test_suppression_of_another_tenant_or_channel_does_not_count(engine: Engine) -> None:
    """An address that refused one company may well want another's mail."""
    cohort, _ = await engine.planned(1)
    await engine.pool.executemany(
        "INSERT INTO suppression (tenant, channel, address, reason) VALUES ($1, $2, $3, 'x')",
        [("other", "email", ADDRESSES[Channel.EMAIL]), (TENANT, "webhook", ADDRESSES[Channel.EMAIL])],
    )
    [claim] = await engine.claim(cohort)
    assert claim.verdict is Verdict.SEND


async def test_a_claim_that_was_given_back_is_free_again(engine: Engine) -> None:
    """Otherwise what was never sent would be called unknown."""
    cohort, _ = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    await engine.claims.give_back([Returned(claim.notification_id, claim.n, claim.attempt)])
    [again] = await engine.claim(cohort)
    assert (again.attempt, again.failures) == (2, 0)


async def test_giving_back_late_leaves_the_next_claim_alone(engine: Engine) -> None:
    """Catches: giving back without the attempt. The row would be claimed a second time while it is being sent."""
    cohort, _ = await engine.planned(1)
    [first] = await engine.claim(cohort)
    await engine.answer([first], RETRY)
    await engine.make_due()
    [second] = await engine.claim(cohort)
    await engine.claims.give_back([Returned(first.notification_id, first.n, first.attempt)])
    assert await engine.claim(cohort) == []
    await engine.answer([second], OK)


async def test_only_what_nobody_brought_home_in_time_is_lost(engine: Engine) -> None:
    """A row in flight that is called unknown too early would be sent twice."""
    cohort, [one, two] = await engine.planned(2)
    await engine.claim(cohort)
    assert await engine.lost(cohort.id, limit=10) == []
    await engine.lose(one)
    assert [c.notification_id for c in await engine.lost(cohort.id, limit=10)] == [one]
    await engine.lose(two, ago=timedelta(minutes=2))
    assert [c.notification_id for c in await engine.lost(None, limit=1)] == [two], "the longest first"


async def test_what_came_home_meanwhile_is_not_lost(engine: Engine) -> None:
    """Between the look and the question."""
    cohort, [_, two] = await engine.planned(2)
    claims = await engine.claim(cohort)
    seen = await engine.claims.in_hand(cohort.id, limit=10)
    await engine.answer([c for c in claims if c.notification_id != two])
    await engine.lose(two)
    assert [c.notification_id for c in (await engine.claims.lost(seen)).claims] == [two]
    await engine.answer((await engine.claims.lost(seen)).claims, RETRY)
    await engine.make_due()
    await engine.claim(cohort)
    await engine.lose(two)
    assert (await engine.claims.lost(seen)).claims == [], "another attempt is another hand-over"


async def test_options_of_a_strange_shape_spoil_no_claim(engine: Engine) -> None:
    """Caught: one row whose options are no object made the whole claim fail after it was made, and all its rows unknown."""
    cohort, _ = await engine.planned(2)
    await engine.accepted(1, options="[1]")
    more = await engine.grouped()
    await engine.plan(more)
    assert len(await engine.claim(cohort)) == 2
    [odd] = await engine.claim(more)
    assert odd.resend_unknown is False
