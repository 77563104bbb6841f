"""What is not handed over says why: a circuit that opened, an account that took nothing until it was too late, a worker
that never told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from activities.handing_over.losses import Losses, record_lost
from domain.health import FIRST_OPEN_S, IN_A_ROW
from domain.results import ResultClass
from domain.timeline import LeftFor
from infra.clock import SYSTEM_CLOCK
from infra.telemetry.engine_metrics import CIRCUITS_OPENED
from tests.engine.fleet import Fleet, account
from tests.engine.hindering import hindered
from tests.engine.support import RETRY, Engine


def told(logs: list[Any], about: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in {"event", "log_level"}} for line in logs if line["event"] == about]


async def test_a_circuit_that_opens_and_closes_is_in_the_log_once(engine: Engine) -> None:
    """Catches: messages that wait for a quarter of an hour, and not a line that says so."""
    fleet = Fleet.of(engine, account("a", *[RETRY] * (IN_A_ROW + 1)))
    opened = CIRCUITS_OPENED.labels("email", "a")
    before = opened._value.get()
    await fleet.send(IN_A_ROW)
    with capture_logs() as logs:
        await fleet.drive()
        for _ in range(4):
            fleet.now_s += 10 * FIRST_OPEN_S
            await fleet.drive_what_waits()
    assert told(logs, "account.circuit_opened") == [{"account": "a", "class": "RETRY", "code": "451"}]
    assert told(logs, "account.circuit_closed") == [{"account": "a"}]
    assert opened._value.get() == before + 1


@pytest.mark.parametrize("why", ["circuit", "throttled", "paused"])
async def test_what_expires_over_an_account_that_takes_nothing_says_so(engine: Engine, why: str) -> None:
    """Catches: accepted, planned, expired, and nothing between."""
    fleet = Fleet.of(engine, account("a"))
    [one] = await fleet.send()
    assert fleet.cohort is not None
    await engine.plan(fleet.cohort)
    await engine.pool.execute("UPDATE work SET account = 'a', expires_at = now()")
    [usable] = fleet.accounts
    fleet.accounts.replace([await hindered(engine, usable, why, now_s=fleet.now_s)])
    await fleet.drive()
    said = {"circuit": LeftFor.CIRCUIT_OPEN, "throttled": LeftFor.THROTTLED, "paused": LeftFor.ACCOUNT_PAUSED}[why]
    detail = await engine.detail(one, "expired")
    assert (detail["account"], detail["held_up_by"]) == ("a", said)


async def test_what_waited_for_a_slot_until_it_was_too_late_says_that_its_account_was_busy(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("a"))
    [one] = await fleet.send()
    assert fleet.cohort is not None
    await engine.plan(fleet.cohort)
    await engine.pool.execute("UPDATE work SET account = 'a', expires_at = now()")
    [taken] = fleet.accounts
    await taken.slots.take(4)
    await fleet.drive()
    assert (await engine.detail(one, "expired"))["held_up_by"] == LeftFor.BUSY


async def test_what_expires_over_one_that_works_blames_nobody(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("a"))
    [one] = await fleet.send()
    assert fleet.cohort is not None
    await engine.plan(fleet.cohort)
    await engine.pool.execute("UPDATE work SET account = 'a', expires_at = now()")
    await fleet.drive()
    detail = await engine.detail(one, "expired")
    assert detail["account"] == "a"
    assert "held_up_by" not in detail


async def test_a_lost_hand_over_says_since_when_and_the_log_how_many(engine: Engine) -> None:
    """Catches: ten e-mails that turn unknown in silence, each said to have taken 0.0 ms."""
    cohort, ids = await engine.planned(3)
    await engine.claim(cohort)
    for one in ids:
        await engine.lose(one)
    lost = await engine.lost(None, limit=10)
    losses = Losses(engine.claims, engine.accounts, clock=SYSTEM_CLOCK)
    with capture_logs() as logs:
        await record_lost(engine.outcomes, list(engine.decider().all_lost(lost)), losses=losses)
    assert told(logs, "hand_over.lost") == [{"count": 3}]
    detail = await engine.detail(ids[0], "attempt")
    assert (detail["class"], detail["code"]) == (ResultClass.UNKNOWN, "no_outcome")
    assert "took_ms" not in detail
    ago = datetime.now(UTC) - datetime.fromisoformat(detail["claimed_at"])
    assert timedelta(0) <= ago < timedelta(minutes=1)
