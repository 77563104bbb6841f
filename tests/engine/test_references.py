"""Messages that receipts name by our own reference: the provider has no id of its own, or it never reached us."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from channels.receipts import Receipt
from domain.ids import reference
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.receiving import Effect
from tests.engine.fleet import Fleet, Provider, account
from tests.engine.reporting import ACCOUNT, claimed, reporting, take
from tests.engine.support import LOST, Engine

NAMELESS = SendResult(ResultClass.OK)
"""Taken, and no id was given."""


@pytest.fixture
def engine(pool: asyncpg.Pool) -> Engine:
    return reporting(pool)


def named(claim: Claim) -> str:
    return reference(claim.notification_id, claim.n, attempt=claim.attempt)


def of(claim: Claim, status: Status, *, provider_id: str | None = None, **more: Any) -> Receipt:
    return Receipt(provider_id, status, reference=named(claim), **more)


async def receipts_told(engine: Engine, one: UUID) -> list[str]:
    rows = await engine.pool.fetch(
        "SELECT detail->>'status' AS status FROM event WHERE notification_id = $1 AND type = 'receipt' ORDER BY id", one
    )
    return [row["status"] for row in rows]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("status", [Status.DELIVERED, Status.READ, Status.FAILED])
async def test_a_provider_without_ids_reports_by_our_reference(
    engine: Engine,
    status: Status,
    early: bool,  # noqa: FBT001 - a table
) -> None:
    one, claim = await claimed(engine)
    if not early:
        await engine.answer([claim], NAMELESS)
        assert await engine.end(one) == ("sent", None, False)
    assert await take(engine, of(claim, status)) == [Effect.CHANGED]
    if early:
        await engine.answer([claim], NAMELESS)
    reason = "undelivered" if status is Status.FAILED else None
    assert await engine.end(one) == (status, reason, True)
    assert await take(engine, of(claim, status), of(claim, Status.SENT)) == [Effect.KNOWN] * 2
    assert await receipts_told(engine, one) == [status]


@pytest.mark.parametrize("early", [False, True])
async def test_both_receipts_and_record_of_a_nameless_one(engine: Engine, early: bool) -> None:  # noqa: FBT001 - a table
    """Its row knows step and attempt, so that what is said of it is not forgotten while it may still be corrected."""
    one, claim = await claimed(engine)
    if early:
        await take(engine, of(claim, Status.SENT))
    await engine.answer([claim], NAMELESS)
    [row] = await engine.pool.fetch("SELECT * FROM receipt_inbox")
    assert (row["notification_id"], row["n"], row["attempt"], row["status"]) == (one, 1, claim.attempt, "sent")


@pytest.mark.parametrize("by_sweep", [False, True])
@pytest.mark.parametrize("provider_id", [None, "v-1"])
@pytest.mark.parametrize("status", [Status.DELIVERED, Status.FAILED])
async def test_an_unknown_becomes_what_is_true(
    engine: Engine,
    status: Status,
    provider_id: str | None,
    by_sweep: bool,  # noqa: FBT001 - a table
) -> None:
    """The connection was cut, or the worker killed: no id was learned, and the receipt names our reference."""
    cohort, [one] = await engine.planned(1, options='{"on_unknown": "hold"}')
    [claim] = await engine.claim(cohort)
    if by_sweep:
        await engine.lose(one)
        [lost] = await engine.lost(cohort.id, limit=9)
        await engine.flush(engine.decider(cohort).lost(lost))
    else:
        await engine.answer([claim], LOST)
    assert await engine.end(one) == ("unknown", "answer_lost", True)
    report = of(claim, status, provider_id=provider_id)
    assert await take(engine, report) == [Effect.CHANGED]
    reason = "undelivered" if status is Status.FAILED else None
    assert await engine.end(one) == (status, reason, True)
    assert await take(engine, report) == [Effect.KNOWN]
    assert await receipts_told(engine, one) == [status]


async def test_a_resend_that_waits_is_taken_back(engine: Engine) -> None:
    _, claim = await claimed(engine, options='{"on_unknown": "resend"}')
    await engine.answer([claim], LOST)
    [row] = await engine.work(claim.notification_id)
    assert row["state"] == 0
    await take(engine, of(claim, Status.DELIVERED))
    assert await engine.work(claim.notification_id) == []
    assert await engine.end(claim.notification_id) == ("delivered", None, True)


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.FAILED])
async def test_both_names_are_one_message(engine: Engine, status: Status) -> None:
    """Catches: the failure by our reference, and `sent` by the provider's id, as two messages of which one is out there."""
    one, claim = await claimed(engine)
    await engine.answer([claim], SendResult(ResultClass.OK, provider_id="v-1"))
    await take(engine, of(claim, status))
    reason = "undelivered" if status is Status.FAILED else None
    assert await engine.end(one) == (status, reason, True)
    await take(engine, Receipt("v-1", status), of(claim, status, provider_id="v-1"))
    assert await receipts_told(engine, one) == [status], "it is told once, under whatever name"
    await take(engine, Receipt("v-1", Status.READ))
    assert await engine.end(one) == ("read", None, True)
    await take(engine, of(claim, Status.DELIVERED), of(claim, Status.FAILED))
    assert await engine.end(one) == ("read", None, True)


async def test_each_attempt_has_a_name_of_its_own(engine: Engine) -> None:
    """The first was lost and sent again: that the first has failed says nothing of the second."""
    one, first = await claimed(engine, options='{"on_unknown": "resend"}')
    await engine.answer([first], LOST)
    await engine.make_due()
    cohort = await engine.pool.fetchval("SELECT id FROM cohort")
    [second] = await engine.claim_over(cohort, ACCOUNT)
    await engine.answer([second], NAMELESS)
    await take(engine, of(first, Status.FAILED))
    assert await engine.end(one) == ("sent", None, False)
    await take(engine, of(second, Status.FAILED))
    assert await engine.end(one) == ("failed", "undelivered", True)
    await take(engine, of(first, Status.DELIVERED))
    assert await engine.end(one) == ("delivered", None, True)


async def test_a_reference_counts_only_for_the_account_that_was_given_it(engine: Engine) -> None:
    one, claim = await claimed(engine)
    await engine.answer([claim], NAMELESS)
    assert await take(engine, of(claim, Status.FAILED), account="memory-webhook") == [Effect.EARLY]
    never = Receipt(None, Status.FAILED, reference=reference(one, 1, attempt=claim.attempt + 1))
    beyond = Receipt(None, Status.FAILED, reference=f"{one}-1-99999")
    other = Receipt(None, Status.FAILED, reference="their own order 4711")
    assert await take(engine, never, beyond, other) == [Effect.EARLY] * 3
    foreign = of(claim, Status.FAILED, tenant="globex")
    assert await take(engine, foreign) == [Effect.FOREIGN]
    assert await engine.end(one) == ("sent", None, False)


async def test_what_an_account_that_reports_nothing_took_has_not_failed(engine: Engine) -> None:
    """Caught: the failure of the first account's message was called the step's, though another account's is out there."""
    fleet = Fleet.of(engine, account("a", provider=Provider, receipt_within=timedelta(seconds=20)), account("b", order=1))
    [one] = await fleet.send()
    await fleet.drive()
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1}
    await engine.receipts.take("a", [Receipt(f"{one}-1", Status.FAILED)])
    assert (await engine.end(one))[0] == "sent"
