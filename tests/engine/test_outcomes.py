"""Outcomes: what really happened is recorded, once, whoever drives the cohort by now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.channels import Channel
from domain.results import ResultClass, SendResult
from infra.postgres.engine.giving_back import Returned
from tests.engine.reporting import reporting
from tests.engine.support import LOST, OK, PERMANENT, RECIPIENT, RETRY, TENANT, Engine


async def test_an_outcome_is_recorded_after_a_redrive(engine: Engine) -> None:
    """Catches: outcomes fenced by epoch. The mail has gone out; forgetting it would send it again."""
    cohort, [one] = await engine.planned(1)
    claims = await engine.claim(cohort)
    await engine.redriven(cohort)
    await engine.answer(claims, OK)
    assert await engine.end(one) == ("sent", None, True)
    assert await engine.work() == []


async def test_a_success_takes_back_a_resend_that_has_not_begun(engine: Engine) -> None:
    """Caught: the attempt's number is raised by the claim and not by the resend, so that `attempt > mine` never saw it."""
    cohort, [one] = await engine.planned(1, options='{"on_unknown": "resend"}')
    [claim] = await engine.claim(cohort)
    await engine.lose(one)
    await engine.answer(await engine.lost(cohort.id, limit=1), LOST)
    [resend] = await engine.work(one)
    assert (resend["state"], resend["attempt"]) == (0, 1)
    await engine.answer([claim], OK)
    assert await engine.work(one) == []
    assert await engine.end(one) == ("sent", None, True)


async def test_of_two_that_were_taken_after_all_the_later_one_is_waited_for(engine: Engine) -> None:
    """Both were called lost, and the second may be reported on for as long as any other."""
    engine = reporting(engine.pool)
    options = '{"fallback_after": "PT60S", "on_unknown": "resend"}'
    cohort, [one] = await engine.planned(
        1, user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK], strategy="fallback", options=options
    )  # fmt: skip
    slow = []
    for _ in range(2):
        await engine.make_due()
        slow += await engine.claim(cohort)
        await engine.lose(one)
        await engine.flush(*[engine.decider().lost(claim) for claim in await engine.lost(None, limit=1)])
    await engine.answer(slow[:1])
    await engine.pool.execute("UPDATE work SET due_at = due_at - interval '30 seconds'")
    await engine.answer(slow[1:])
    assert await engine.pool.fetchval("SELECT awaiting AND due_at > now() + interval '31 seconds' FROM work")


async def test_a_success_takes_back_a_resend_that_came_back_unsent(engine: Engine) -> None:
    """The same where the resend was claimed once and given back."""
    cohort, [one] = await engine.planned(1, options='{"on_unknown": "resend"}')
    [claim] = await engine.claim(cohort)
    await engine.lose(one)
    await engine.answer(await engine.lost(cohort.id, limit=1), LOST)
    await engine.make_due()
    await engine.claim(cohort)
    await engine.pool.execute("UPDATE work SET state = 0")
    await engine.answer([claim], OK)
    assert await engine.work(one) == []


async def test_a_resend_given_back_after_the_first_has_arrived_is_not_sent(engine: Engine) -> None:
    """Caught by the state machine's test: the message that the provider had taken went out again, though that was known."""
    cohort, [one] = await engine.planned(1, options='{"on_unknown": "resend"}')
    [claim] = await engine.claim(cohort)
    await engine.lose(one)
    await engine.answer(await engine.lost(cohort.id, limit=1), LOST)
    await engine.make_due()
    [resend] = await engine.claim(cohort)
    await engine.answer([claim], OK)
    await engine.claims.give_back([Returned(one, resend.n, resend.attempt)])
    [again] = await engine.claim(cohort)
    assert again.awaiting, "it is not handed over, but ends as one whose receipt is overdue"
    await engine.flush(engine.decider(cohort).overdue(again))
    assert await engine.work(one) == []
    assert await engine.end(one) == ("sent", None, True)


@pytest.mark.parametrize("second", [RETRY, PERMANENT, LOST])
async def test_nothing_follows_a_resend_once_the_first_is_known_to_have_arrived(engine: Engine, second: SendResult) -> None:
    """Caught: the resend's own failure opened a third attempt, or the next place of the chain, for a message that the
    provider had already taken."""
    cohort, [one] = await engine.planned(
        1, user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK], strategy="fallback", options='{"on_unknown": "resend"}'
    )
    [first] = await engine.claim(cohort)
    await engine.lose(one)
    await engine.answer(await engine.lost(cohort.id, limit=1), LOST)
    await engine.make_due()
    [resend] = await engine.claim(cohort)
    await engine.answer([first], OK)
    await engine.answer([resend], second)
    assert await engine.work(one) == []
    assert await engine.end(one) == ("sent", None, True)
    assert "fallback" not in await engine.events(one)


async def test_a_late_answer_corrects_unknown(engine: Engine) -> None:
    """Catches: a record that is closed for good once it says unknown."""
    cohort, [one, two, three] = await engine.planned(3)
    claims = await engine.claim(cohort)
    for notification in (one, two, three):
        await engine.lose(notification)
    await engine.answer(await engine.lost(cohort.id, limit=10), LOST)
    assert await engine.end(one) == ("unknown", "answer_lost", True)
    await engine.flush(*[engine.answered(c, r) for c, r in zip(claims, (OK, PERMANENT, RETRY), strict=True)])
    assert await engine.end(one) == ("sent", None, True)
    assert await engine.end(two) == ("failed", "content_refused", True)
    # The chain has stopped at the unknown: an answer that asks for a retry comes too late for one.
    assert await engine.end(three) == ("failed", "answer_lost", True)


async def test_unknown_never_undoes_what_is_known(engine: Engine) -> None:
    """Catches: writing whatever comes last. The sweep looked before the answer came and writes after it."""
    cohort, ids = await engine.planned(3)
    claims = await engine.claim(cohort)
    for notification in ids:
        await engine.lose(notification)
    looked = await engine.lost(cohort.id, limit=10)
    await engine.flush(*[engine.answered(c, r) for c, r in zip(claims, (OK, PERMANENT, RETRY), strict=True)])
    before = [await engine.events(i) for i in ids]
    await engine.flush(*[engine.decider().lost(c) for c in looked])
    assert [(await engine.deliveries(i))["email"][0] for i in ids] == ["sent", "failed", "retrying"]
    assert [await engine.events(i) for i in ids] == before


async def test_two_who_find_the_same_loss_tell_it_once(engine: Engine) -> None:
    """Caught: the sweep and the cohort's own activity both wrote it down, each with ids of its own."""
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    await engine.lose(one)
    first, second = [await engine.lost(cohort.id, limit=1) for _ in range(2)]
    await engine.flush(*[engine.decider().lost(c) for c in first])
    await engine.flush(*[engine.decider().lost(c) for c in second])
    assert await engine.events(one) == ["planned", "attempt", "unknown"]


@pytest.mark.parametrize("result", [OK, RETRY, PERMANENT, RECIPIENT, LOST])
async def test_a_flush_repeated_after_a_lost_commit_writes_nothing_twice(engine: Engine, result: SendResult) -> None:
    """Catches: events whose ids are made in the flush. The COMMIT's answer was lost, and the same outcomes come again."""
    cohort, [one] = await engine.planned(
        1, user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK], strategy="fallback"
    )  # fmt: skip
    outcomes = await engine.answer(await engine.claim(cohort), result)
    work, deliveries, events = await engine.work(), await engine.deliveries(one), await engine.events(one)
    end = await engine.end(one)
    await engine.flush(*outcomes)
    assert (await engine.work(), await engine.deliveries(one)) == (work, deliveries)
    assert (await engine.events(one), await engine.end(one)) == (events, end)


async def test_a_repeated_flush_does_not_undo_what_came_after_it(engine: Engine) -> None:
    """The retry that followed has succeeded by now; the first failure, told again, is old news."""
    cohort, [one] = await engine.planned(1)
    first = await engine.answer(await engine.claim(cohort), RETRY)
    await engine.make_due()
    await engine.answer(await engine.claim(cohort), OK)
    await engine.flush(*first)
    assert await engine.end(one) == ("sent", None, True)
    assert await engine.work() == []


async def test_a_retry_waits_for_its_time_and_counts(engine: Engine) -> None:
    """Catches: an attempt that is opened at once, or failures that are not counted against the lane's table."""
    cohort, [one] = await engine.planned(1)
    await engine.answer(await engine.claim(cohort), RETRY)
    [row] = await engine.work(one)
    assert (row["state"], row["failures"], row["attempt"], row["unknown_at"]) == (0, 1, 1, None)
    assert await engine.pool.fetchval("SELECT due_at > now() FROM work")
    assert await engine.deliveries(one) == {"email": ("retrying", None)}
    assert await engine.end(one) == ("accepted", None, False)


async def test_due_times_are_by_the_databases_clock(engine: Engine) -> None:
    """Caught: a worker whose clock is an hour ahead put every retry off by an hour, or called it expired."""
    cohort, _ = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    said_by_database = replace(claim, claimed_at=claim.claimed_at + timedelta(minutes=10))
    await engine.answer([said_by_database], SendResult(ResultClass.RATE, retry_after=timedelta(seconds=30)))
    wait: timedelta = await engine.pool.fetchval("SELECT due_at - now() FROM work")
    assert timedelta(minutes=10) < wait <= timedelta(minutes=10, seconds=36)


async def test_a_refused_address_is_suppressed_for_its_tenant(engine: Engine) -> None:
    """Otherwise the dead address is asked again with every campaign."""
    cohort, [one] = await engine.planned(1)
    await engine.answer(await engine.claim(cohort), RECIPIENT)
    assert await engine.end(one) == ("failed", "recipient_refused", True)
    rows = await engine.pool.fetch("SELECT tenant, channel, address FROM suppression")
    assert [tuple(r) for r in rows] == [(TENANT, "email", "a@example.com")]
    cohort, [two] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    await engine.flush(engine.decider().stopped(claim))
    assert await engine.end(two) == ("suppressed", "address_suppressed", True)
