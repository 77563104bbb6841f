"""Messages of providers that report, and the receipts that come of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.receipts import Receipt
from domain.results import ResultClass
from domain.states import Status
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.receiving import Effect
from tests.engine.fleet import Provider
from tests.engine.support import EVERYWHERE, Engine

AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
ACCOUNT = "memory-email"


def reporting(pool: asyncpg.Pool) -> Engine:
    """One whose providers report."""
    accounts = Accounts(
        [Account(f"memory-{channel}", Provider(channel=channel), Slots(8)) for channel in EVERYWHERE],
        spread=lambda: 0.0,
    )
    return Engine(pool, {}, accounts)


def receipt(status: Status, *, provider_id: str = "p-1", after_s: float = 0, **more: Any) -> Receipt:
    at = AT + timedelta(seconds=after_s)
    result = ResultClass.RETRY if status is Status.FAILED else None
    return Receipt(provider_id, status, **({"at": at, "result": result} | more))


async def take(engine: Engine, *receipts: Receipt, account: str = ACCOUNT) -> list[Effect]:
    return list((await engine.receipts.take(account, receipts)).effects)


async def claimed(engine: Engine, **fields: Any) -> tuple[UUID, Claim]:
    cohort, [one] = await engine.planned(1, **fields)
    [claim] = await engine.claim(cohort)
    return one, claim


async def sent(engine: Engine, **fields: Any) -> UUID:
    one, claim = await claimed(engine, **fields)
    await engine.answer([claim])
    return one


async def story(engine: Engine, one: UUID) -> dict[str, Any]:
    """All that a user could see of how it ended, but for our own clock's times."""
    [delivery] = await engine.pool.fetch(
        "SELECT status, reason, class, code, delivered_at, read_at, receipt_until IS NULL AS over FROM delivery "
        "WHERE notification_id = $1", one
    )  # fmt: skip
    return {"end": await engine.end(one), **delivery, "work": len(await engine.work(one))}
