"""Webhooks whose receivers hang, and accounts that take nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from activities.accounts.account import Account, Accounts
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from activities.delivery import DeliveryActivities
from channels.base import Capabilities, Message
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import FEW, Lane
from domain.results import SendResult
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.permits import PermitRepository
from tests.engine.driving import HeldProvider, drive
from tests.engine.support import Engine

HIGH, MEDIUM = Lane.HIGH, Lane.MEDIUM
MANY = FEW + 20
"""So many of one tenant have a cohort of their own."""


class Hooks(HeldProvider):
    """Webhooks. Those to a host that is named `hangs` wait until the test lets them go."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(channel=Channel.WEBHOOK, **rest)

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, many_servers=True, call_timeout_s=60.0)

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        if "hangs" in batch[0].address:
            return await super().send(batch)
        return await MemoryProvider.send(self, batch)


def hooks(provider: MemoryProvider, *, slots: int = 16) -> Accounts:
    return Accounts([Account("hook", provider, Slots.for_many_servers(slots))])


def to(host: str) -> dict[str, Any]:
    return {"to": (Channel.WEBHOOK, f"https://{host}.example/x"), "channels": [Channel.WEBHOOK]}


async def cohort_of(engine: Engine, tenant: str, count: int, host: str, *, lane: Lane = MEDIUM) -> CohortRow:
    await engine.accepted(count, lane=lane, tenant=tenant, **to(host))
    return await engine.grouped(lane)


async def drained(engine: Engine, work: DeliveryActivities) -> None:
    """Whatever waits is due, until nothing is left."""
    while await engine.work():
        await engine.make_due()
        await engine.cohorts.group(MEDIUM)
        for row in await engine.pool.fetch("SELECT id, epoch, tenant FROM cohort"):
            await work.deliver(drive(CohortRow(row["id"], row["epoch"], MEDIUM, row["tenant"])))


def takes_nothing(engine: Engine, why: str) -> Account:
    """An account, and why it may not be called."""
    if why == "throttled target":
        account = Account("hook", Hooks(), Slots.for_many_servers(16))
        target, now_s = ("acme", "https://busy.example/x"), time.monotonic()
        account.shares.begin(why, target, now_s=now_s)
        account.shares.end(why, target, now_s=now_s, answered=True)
        account.shares.throttled(target, 60.0, now_s=now_s, took_s=0.0)
        return account
    limited = Permits(PermitRepository(engine.pool), account="mail", rate_per_second=0.01)
    account = Account("mail", MemoryProvider(), Slots(1), permits=limited if why == "no permit" else None)
    if why == "throttled":
        account.health.throttle.hold(60.0, now_s=time.monotonic(), took_s=0.0)
    return account
