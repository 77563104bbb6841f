"""Receipts and our own record of the same message: matched whichever comes first, and never undone by less."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from channels.receipts import Receipt
from domain.channels import Channel
from domain.ids import uuid7
from domain.results import ResultClass
from domain.states import Status
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.receiving import Effect, ReceiptRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.reporting import ACCOUNT, AT, claimed, receipt, reporting, sent, story, take
from tests.engine.support import LOST, OK, PERMANENT, RECIPIENT, TENANT, Engine


@pytest.fixture
def engine(pool: asyncpg.Pool) -> Engine:
    return reporting(pool)


async def test_what_was_sent_is_final_when_no_receipt_can_come_any_more(engine: Engine) -> None:
    one = await sent(engine)
    assert await engine.end(one) == ("sent", None, False)
    assert (await engine.notification(one))["finished_at"] is None
    assert await engine.receipts.close(limit=100) == 0, "its window is open"
    assert await engine.end_of_windows() == 1
    assert await engine.end(one) == ("sent", None, True)
    assert (await engine.notification(one))["finished_at"] is not None
    assert await engine.end_of_windows() == 0


async def test_a_receipt_is_told_once(engine: Engine) -> None:
    one = await sent(engine)
    assert await take(engine, receipt(Status.DELIVERED)) == [Effect.CHANGED]
    before = await story(engine, one)
    assert before["end"] == ("delivered", None, True)
    assert before["delivered_at"] == AT
    detail = await engine.detail(one, "receipt")
    assert detail == {"status": "delivered", "account": ACCOUNT, "provider_id": "p-1", "at": AT.isoformat()}
    assert await take(engine, receipt(Status.DELIVERED), receipt(Status.SENT)) == [Effect.KNOWN] * 2
    assert await story(engine, one) == before
    assert (await engine.events(one)).count("receipt") == 1


async def test_a_receipt_that_is_early_waits_for_our_own_record(engine: Engine) -> None:
    one, claim = await claimed(engine)
    assert await take(engine, receipt(Status.DELIVERED)) == [Effect.EARLY]
    assert await engine.events(one) == ["planned"]
    await engine.answer([claim])
    assert await engine.end(one) == ("delivered", None, True)
    assert (await engine.events(one))[-2:] == ["attempt", "receipt"]


REPORTS = [
    receipt(Status.SENT), receipt(Status.DELIVERED, after_s=5), receipt(Status.READ, after_s=9),
    receipt(Status.FAILED, after_s=3, code="30003"),
]  # fmt: skip
SETS = [REPORTS[:2], [REPORTS[0], REPORTS[3]], [REPORTS[1], REPORTS[3]], REPORTS[1:3], [REPORTS[1]], [REPORTS[3]], REPORTS]


@pytest.mark.parametrize("reports", SETS, ids=lambda reports: "+".join(r.status for r in reports))
async def test_the_order_does_not_matter(engine: Engine, reports: Sequence[Receipt]) -> None:
    """Every order of our own record and up to four receipts, some of them twice."""
    stories = []
    orders = list(itertools.permutations([None, *reports]))
    for number, order in enumerate(orders[:: 1 + len(orders) // 40]):
        one, claim = await claimed(engine)
        await engine.pool.execute("DELETE FROM receipt_inbox; DELETE FROM cohort")
        for report in [*order, order[number % len(order)]]:
            if report is None:
                await engine.answer([claim])
            else:
                await take(engine, report)
        stories.append(await story(engine, one))
    assert all(told == stories[0] for told in stories)
    best = max((r.status for r in reports), key=[Status.SENT, Status.FAILED, Status.DELIVERED, Status.READ].index)
    assert stories[0]["status"] == best


@pytest.mark.parametrize("first", ["receipt", "record"])
@pytest.mark.parametrize("stops_at", ["INSERT INTO receipt_inbox", "COMMIT"])
@pytest.mark.parametrize("status", [Status.DELIVERED, Status.FAILED])
async def test_a_receipt_and_our_own_record_in_one_moment(
    engine: Engine, first: str, stops_at: str, status: Status
) -> None:
    """Each has looked, or written, and not committed when the other comes: nothing is lost between the two."""
    one, claim = await claimed(engine)
    outcome = engine.answered(claim)
    gate = Gate(stops_at)
    held = gated(engine.pool, gate)

    async def record(pool: asyncpg.Pool) -> None:
        await OutcomeRepository(pool).flush([outcome], now_s=outcome.happened_at_s)

    async def report(pool: asyncpg.Pool) -> None:
        await ReceiptRepository(pool).take(ACCOUNT, [receipt(status)])

    slow, quick = (report, record) if first == "receipt" else (record, report)
    begun = asyncio.create_task(slow(held))
    await gate.reached.wait()
    other = asyncio.create_task(quick(engine.pool))
    await done_or_blocked(engine.pool, other)
    gate.open.set()
    await asyncio.gather(begun, other)
    assert (await engine.end(one))[0] == status
    assert (await engine.events(one)).count("receipt") == 1


async def test_two_processes_get_the_same_receipt(engine: Engine) -> None:
    one = await sent(engine)
    gate = Gate("UPDATE receipt_inbox")
    slow = asyncio.create_task(ReceiptRepository(gated(engine.pool, gate)).take(ACCOUNT, [receipt(Status.DELIVERED)]))
    await gate.reached.wait()
    again = asyncio.create_task(engine.receipts.take(ACCOUNT, [receipt(Status.DELIVERED)]))
    await done_or_blocked(engine.pool, again)
    gate.open.set()
    assert list((await slow).effects) == [Effect.CHANGED]
    assert list((await again).effects) == [Effect.KNOWN]
    assert (await engine.events(one)).count("receipt") == 1


async def test_many_in_one_request(engine: Engine) -> None:
    cohort, ids = await engine.planned(5)
    claims = await engine.claim(cohort)
    outcomes = [
        engine.answered(claim, type(OK)(ResultClass.OK, provider_id=f"p-{claim.notification_id}")) for claim in claims
    ]
    await engine.flush(*outcomes)
    reports = [receipt(Status.DELIVERED, provider_id=f"p-{one}") for one in ids]
    unknown = receipt(Status.DELIVERED, provider_id="nobody")
    assert await take(engine, *reports, unknown, reports[0]) == [Effect.CHANGED] * 5 + [Effect.EARLY, Effect.CHANGED]
    assert {(await engine.end(one))[0] for one in ids} == {"delivered"}


async def test_a_failure_after_the_end_is_the_end(engine: Engine) -> None:
    one = await sent(engine, to=(Channel.EMAIL, "dead@example.com"))
    await engine.end_of_windows()
    assert await engine.end(one) == ("sent", None, True)
    await take(engine, receipt(Status.FAILED, result=ResultClass.RECIPIENT, code="550"))
    assert await engine.end(one) == ("failed", "recipient_refused", True)
    assert await engine.pool.fetchval("SELECT address FROM suppression") == "dead@example.com"
    told = await story(engine, one)
    assert (told["class"], told["code"]) == ("RECIPIENT", "550")
    await take(engine, receipt(Status.DELIVERED))
    assert await engine.end(one) == ("delivered", None, True), "it arrived after all"


async def test_a_report_corrects_an_unknown(engine: Engine) -> None:
    for status, end in (
        (Status.DELIVERED, ("delivered", None, True)), (Status.SENT, ("sent", None, True)),
        (Status.FAILED, ("failed", "undelivered", True)),
    ):  # fmt: skip
        one, claim = await claimed(engine)
        await engine.answer([claim], LOST)
        assert await engine.end(one) == ("unknown", "answer_lost", True)
        name = f"{one}-1"
        assert await take(engine, receipt(status, provider_id=name, reference=name)) == [Effect.CHANGED]
        assert await engine.end(one) == end


async def test_what_was_taken_by_a_worker_that_died_is_known_by_its_receipt(engine: Engine) -> None:
    """It is early, our own record never comes, and that nobody knows is said when it has been reported."""
    one, _ = await claimed(engine)
    name = f"{one}-1"
    assert await take(engine, receipt(Status.DELIVERED, provider_id=name, reference=name)) == [Effect.CHANGED]
    await engine.lose(one)
    await engine.flush(*[engine.decider().lost(claim) for claim in await engine.lost(None, limit=9)])
    assert await engine.end(one) == ("delivered", None, True)


@pytest.mark.parametrize("status", [Status.SENT, Status.DELIVERED])
async def test_a_report_takes_back_the_resend_that_waits(engine: Engine, status: Status) -> None:
    one, claim = await claimed(engine, options='{"on_unknown": "resend"}')
    await engine.answer([claim], LOST)
    assert len(await engine.work(one)) == 1
    name = f"{one}-1"
    await take(engine, receipt(status, provider_id=name, reference=name))
    assert await engine.work(one) == []
    assert (await engine.end(one))[0] == status


@pytest.mark.parametrize("answer", [PERMANENT, RECIPIENT])
async def test_a_late_refusal_takes_back_the_resend_that_waits(engine: Engine, answer: Any) -> None:
    """Caught: the answer of an attempt that was called lost said that no attempt can help, and another one was made."""
    chain: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK], "strategy": "fallback"}
    one, claim = await claimed(engine, options='{"on_unknown": "resend"}', **chain)
    await engine.lose(one)
    await engine.flush(*[engine.decider().lost(c) for c in await engine.lost(None, limit=9)])
    assert [w["n"] for w in await engine.work(one)] == [1]
    [late] = await engine.answer([claim], answer)
    assert [w["n"] for w in await engine.work(one)] == [2], "the chain goes on"
    assert (await engine.deliveries(one))["email"][0] == "failed"
    await engine.flush(late)
    assert [w["n"] for w in await engine.work(one)] == [2]
    assert (await engine.events(one)).count("fallback") == 1


async def test_nobody_reports_on_another_accounts_messages(engine: Engine) -> None:
    one = await sent(engine)
    name = f"{one}-1"
    for report in (receipt(Status.FAILED), receipt(Status.FAILED, provider_id=name, reference=name)):
        assert await take(engine, report, account="memory-webhook") == [Effect.EARLY]
    assert await engine.end(one) == ("sent", None, False)


async def test_nobody_reports_on_another_tenants_messages(engine: Engine) -> None:
    one = await sent(engine)
    assert await take(engine, receipt(Status.FAILED, tenant="other")) == [Effect.FOREIGN]
    assert await take(engine, receipt(Status.DELIVERED, tenant=TENANT)) == [Effect.CHANGED]
    assert (await engine.end(one))[0] == "delivered"


async def test_an_id_that_nobody_has(engine: Engine) -> None:
    name = f"{uuid7()}-1"
    assert await take(engine, receipt(Status.DELIVERED, provider_id=name, reference=name)) == [Effect.EARLY]


async def test_a_providers_clock_that_is_ahead_is_not_believed(engine: Engine) -> None:
    one = await sent(engine)
    await take(engine, receipt(Status.DELIVERED, after_s=10 * 365 * 86_400))
    delivered_at = await engine.pool.fetchval("SELECT delivered_at FROM delivery WHERE notification_id = $1", one)
    assert delivered_at <= datetime.now(UTC)


async def test_what_was_recalled_stays_so(engine: Engine) -> None:
    one = await sent(engine)
    await engine.pool.execute("UPDATE delivery SET status = 'cancelled', reason = 'recalled_by_request'")
    await take(engine, receipt(Status.DELIVERED))
    assert await engine.deliveries(one) == {"email": ("cancelled", "recalled_by_request")}


async def test_what_matched_nothing_is_forgotten_a_few_at_a_time(engine: Engine) -> None:
    await sent(engine)
    await take(engine, *[receipt(Status.DELIVERED, provider_id=f"lost-{k}") for k in range(5)])
    assert await engine.receipts.forget(limit=100) == 0
    await engine.pool.execute("UPDATE receipt_inbox SET until = until - interval '25 hours'")
    assert await engine.receipts.forget(limit=3) == 3
    assert await engine.receipts.forget(limit=100) == 2
    assert await engine.pool.fetchval("SELECT provider_id FROM receipt_inbox") == "p-1", "one may still come for it"
