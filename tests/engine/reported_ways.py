"""Fleets whose accounts report: two of one channel, and chains from mail to webhook."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.engine.receiving import Taken
from tests.engine.fleet import Fleet, Provider, account
from tests.engine.support import Engine

CHAIN: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK], "strategy": "fallback"}
LONG_CHAIN = CHAIN | {"channels": [Channel.EMAIL, Channel.WEBHOOK, Channel.INAPP]}
NOT_READ = '{"fallback_after": "PT60S", "fallback_on": "not_read"}'


async def report(
    engine: Engine, one: UUID, status: Status, *, over: str = "a", result: ResultClass | None = None, n: int = 1
) -> Taken:
    return await engine.receipts.take(over, [Receipt(f"{one}-{n}", status, result=result)])


async def regrouped(fleet: Fleet) -> None:
    """What a receipt has made due is in no cohort; somebody groups it."""
    fleet.cohort = await fleet.engine.grouped()


def two_accounts(engine: Engine, *, within_s: float = 20) -> Fleet:
    first = account("a", provider=Provider, receipt_within=timedelta(seconds=within_s))
    return Fleet.of(engine, first, account("b", order=1, provider=Provider))


def mail_then_hook(engine: Engine, *script: SendResult) -> tuple[Fleet, MemoryProvider]:
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    hook.script(*script)
    inbox = Account("inbox", MemoryProvider(channel=Channel.INAPP), Slots(4))
    return Fleet.of(engine, account("a", provider=Provider), Account("hook", hook, Slots(4)), inbox), hook
