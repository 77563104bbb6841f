"""Somebody sets the database's clock back by an hour: no chain stays an hour longer with a channel that is down."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from activities.clock_watch import AROUND
from domain.channels import Channel
from domain.lanes import Lane
from domain.states import Status
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.clock_steps import ClockRepository
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.hindering import AFTER, CHAIN, OPTIONS, fleet_of, passes, send, stored
from tests.engine.reporting import receipt, reporting, take
from tests.engine.support import RETRY, Engine, soon, window

HOUR = timedelta(hours=1)
MOMENT = timedelta(seconds=5)
ASKED: dict[str, Any] = {"options": stored(OPTIONS), **CHAIN}
_AHEAD = (
    "UPDATE work SET due_at = due_at + $1::interval, falls_back_at = falls_back_at + $1::interval, "
    "start_by = start_by + $1::interval, unknown_at = unknown_at + $1::interval"
)


async def was_ahead(engine: Engine) -> None:
    """All that is there was written while the clock was an hour ahead."""
    await engine.pool.execute(_AHEAD, HOUR)


async def set_back(engine: Engine) -> None:
    await ClockRepository(engine.pool).set_back(soon(HOUR.total_seconds()), by=HOUR)


async def looked_at_last(engine: Engine) -> None:
    await ClockRepository(engine.pool).begun_ahead(soon(HOUR.total_seconds()) + AROUND, by=HOUR)


async def left(engine: Engine, one: UUID | None = None) -> tuple[timedelta, timedelta]:
    """Until it is due, and until its chain goes on."""
    row = await engine.pool.fetchrow(
        "SELECT due_at - now() AS due, falls_back_at - now() AS left FROM work "
        "WHERE $1::uuid IS NULL OR notification_id = $1", one,
    )  # fmt: skip
    assert row is not None
    return row["due"], row["left"]


async def all_times(engine: Engine) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await engine.pool.fetch("SELECT due_at, falls_back_at FROM work ORDER BY 1, 2")
    return rows


def ahead_by_an_hour(claim: Claim) -> Claim:
    """The same, claimed by the clock as it was."""
    assert claim.falls_back_at is not None
    return replace(
        claim, claimed_at=claim.claimed_at + HOUR, falls_back_at=claim.falls_back_at + HOUR,
        expires_at=claim.expires_at + HOUR,
    )  # fmt: skip


async def retried(engine: Engine) -> tuple[CohortRow, UUID]:
    """It failed once, and is due again in some seconds."""
    cohort, [one] = await engine.planned(1, **ASKED)
    await engine.answer(await engine.claim(cohort, Channel.WEBHOOK), RETRY)
    return cohort, one


async def test_what_was_due_has_what_was_left_to_it(engine: Engine) -> None:
    await engine.planned(1, **ASKED)
    await engine.pool.execute("UPDATE work SET falls_back_at = falls_back_at - interval '30 seconds'")
    await was_ahead(engine)
    await set_back(engine)
    due, until = await left(engine)
    assert due <= timedelta(0)
    assert timedelta(0) < until <= AFTER - timedelta(seconds=30)


async def test_a_retry_that_lay_ahead_of_that_clock_too_is_made_in_its_time(engine: Engine) -> None:
    """Caught: nobody looked at it for an hour, nor did its chain go on; its workflow had been told to wait so long."""
    await retried(engine)
    before = await left(engine)
    await was_ahead(engine)
    await set_back(engine)
    due, until = await left(engine)
    assert timedelta(0) < due <= before[0]
    assert AFTER - MOMENT < until <= before[1]
    assert [row["cohort"] for row in await engine.work()] == [None]


async def test_a_receipt_is_overdue_in_its_time(engine: Engine) -> None:
    await engine.planned(1, **ASKED)
    await engine.pool.execute("UPDATE work SET awaiting = true, due_at = falls_back_at + interval '1 second'")
    await was_ahead(engine)
    await set_back(engine)
    due, _ = await left(engine)
    assert AFTER - MOMENT < due <= AFTER + timedelta(seconds=1)


async def test_what_was_in_hand_has_what_was_left_to_it(engine: Engine) -> None:
    """Its worker was killed, and whoever finds it goes by its row."""
    cohort, [one] = await engine.planned(1, **ASKED)
    await engine.claim(cohort, Channel.WEBHOOK)
    await was_ahead(engine)
    await set_back(engine)
    assert [(row["state"], row["cohort"]) for row in await engine.work()] == [(1, cohort.id)]
    await engine.lose(one)
    [claim] = await engine.lost(None, limit=1)
    assert claim.falls_back_at is not None
    assert claim.falls_back_at - claim.claimed_at <= AFTER


async def test_an_answer_to_what_was_claimed_before_is_looked_at_when_it_is_there(engine: Engine) -> None:
    """Caught: its outcome goes by its claim, and so by the clock as it was."""
    cohort, [one] = await engine.planned(1, **ASKED)
    [claim] = await engine.claim(cohort, Channel.WEBHOOK)
    await set_back(engine)
    await engine.answer([ahead_by_an_hour(claim)], RETRY)
    assert (await left(engine, one))[0] > HOUR
    await looked_at_last(engine)
    due, until = await left(engine, one)
    assert due < timedelta(seconds=10)
    assert AFTER - MOMENT < until <= AFTER


@pytest.mark.parametrize("fails", [False, True])
async def test_an_answer_told_again_brings_back_no_time_of_the_clock_as_it_was(engine: Engine, *, fails: bool) -> None:
    """Caught by the state machine's test: taken, looked at, and flushed once more because the COMMIT's answer was lost; or
    after its receipt has come, too."""
    engine = reporting(engine.pool)
    cohort, _ = await engine.planned(1, **ASKED)
    claims = await engine.claim(cohort, Channel.WEBHOOK)
    await set_back(engine)
    told = await engine.answer([ahead_by_an_hour(claim) for claim in claims])
    await looked_at_last(engine)
    if fails:
        await take(engine, receipt(Status.FAILED), account="memory-webhook")
    before = await left(engine)
    await engine.flush(*told)
    due, until = await left(engine)
    assert due <= (timedelta(0) if fails else before[0])
    assert AFTER - MOMENT < until <= before[1]


async def test_it_goes_on_over_the_next_channel_in_its_time(engine: Engine) -> None:
    """From the other end: what was put off until its chain goes on."""
    fleet = await fleet_of(engine, "throttled")
    await send(fleet, **OPTIONS)
    await fleet.drive()
    await was_ahead(engine)
    await set_back(engine)
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"mail": 1, "hook": 0}


async def test_looked_for_again_and_again_it_is_moved_once(engine: Engine) -> None:
    """Catches: two processes that notice the step, and each looks three times: three hours too early."""
    await retried(engine)
    await engine.planned(1, **ASKED)
    await was_ahead(engine)
    await set_back(engine)
    moved = await all_times(engine)
    await looked_at_last(engine)
    assert await all_times(engine) == moved
    await set_back(engine)
    assert [row["falls_back_at"] for row in await all_times(engine)] == [row["falls_back_at"] for row in moved]


async def test_what_began_since_then_keeps_its_time(engine: Engine) -> None:
    """Catches: a chain that leaves a channel at once because the clock had been wrong until a moment before. What waits for
    its window has its time from the opening, which lies ahead."""
    _, one = await retried(engine)
    closed = stored({**msgspec.json.decode(window(opens_in=3)[0]), **OPTIONS})
    asked = {**ASKED, "options": closed, "lane": Lane.LOW, "expires_in": timedelta(hours=30)}
    _, [later] = await engine.planned(1, **asked)
    before = [row["falls_back_at"] for row in await all_times(engine)]
    await set_back(engine)
    await looked_at_last(engine)
    assert [row["falls_back_at"] for row in await all_times(engine)] == before
    assert (await left(engine, one))[1] > AFTER - MOMENT
    due, until = await left(engine, later)
    assert due > 2 * HOUR
    assert until - due == AFTER


async def test_what_had_waited_for_longer_than_that_stays_no_longer_than_its_time(engine: Engine) -> None:
    """The limit: set back by less than it had waited, nothing tells it from what began since then."""
    await engine.planned(1, **ASKED)
    await engine.pool.execute("UPDATE work SET falls_back_at = now() + interval '5 seconds'")
    by = timedelta(seconds=20)
    await engine.pool.execute(_AHEAD, by)
    await ClockRepository(engine.pool).set_back(soon(20), by=by)
    _, until = await left(engine)
    assert until <= timedelta(seconds=5) + by < AFTER


@pytest.mark.parametrize("odd", ['{"fallback_after": "soon"}', '{"fallback_after": 40}', '{"fallback_after": "PT"}', "[]"])
async def test_a_time_that_cannot_be_read_spoils_no_other(engine: Engine, odd: str) -> None:
    _, [one, other] = await engine.planned(2, **ASKED)
    await engine.pool.execute("UPDATE notification SET options = $2 WHERE id = $1", one, odd)
    await was_ahead(engine)
    await set_back(engine)
    assert (await left(engine, other))[1] <= AFTER


@pytest.mark.parametrize("after", ["P2D", "P1DT30S", "PT40.5S", "PT7200S"])
async def test_every_time_that_may_be_stored_is_read(engine: Engine, after: str) -> None:
    span = msgspec.convert(after, timedelta)
    assert msgspec.json.encode(span).decode() == f'"{after}"', "as it is stored"
    await engine.planned(1, **{**ASKED, "options": stored({"fallback_after": span}), "expires_in": timedelta(days=9)})
    await was_ahead(engine)
    await set_back(engine)
    _, until = await left(engine)
    assert span - MOMENT < until <= span


async def test_what_comes_back_unsent_is_due_at_once(engine: Engine) -> None:
    """Caught: what had been claimed before the step, and was not sent, waited for an hour; of a chain or not."""
    cohort, [one] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    await was_ahead(engine)
    await engine.claims.give_back([engine.decider(cohort).returned(claim)])
    due: timedelta = await engine.pool.fetchval("SELECT due_at - now() FROM work WHERE notification_id = $1", one)
    assert due <= timedelta(0)
