"""Chains whose first channel takes nothing, for each cause there is, and time that passes for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from activities.accounts.account import Account, Stop
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from channels.base import Capabilities
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.health import IN_A_ROW
from domain.results import ResultClass
from domain.timeline import LeftFor
from infra.postgres.engine.permits import PermitRepository
from tests.engine.fleet import Fleet
from tests.engine.support import ADDRESSES, TENANT, Engine

AFTER = timedelta(seconds=40)
OPTIONS: dict[str, Any] = {"fallback_after": "PT40S"}
CHAIN: dict[str, Any] = {"user": "u-1", "channels": [Channel.WEBHOOK, Channel.EMAIL], "strategy": "fallback"}
"""Webhooks first: of an account like that also single receivers may be held back."""
TOLD = {
    "circuit": LeftFor.CIRCUIT_OPEN, "throttled": LeftFor.THROTTLED, "slot": LeftFor.BUSY, "permit": LeftFor.BUSY,
    "receiver": LeftFor.BUSY, "paused": LeftFor.ACCOUNT_PAUSED, "broken": LeftFor.ACCOUNT_BROKEN,
}  # fmt: skip
"""What keeps an account from taking anything, and what the timeline calls it."""
HINDRANCES = pytest.mark.parametrize("why", TOLD)


class Hooks(MemoryProvider):
    def __init__(self, **rest: Any) -> None:
        super().__init__(channel=Channel.WEBHOOK, **rest)

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, many_servers=True)


def hook(name: str = "hook", **rest: Any) -> Account:
    return Account(name, Hooks(), Slots(1), **rest)


def mail() -> Account:
    return Account("mail", MemoryProvider(), Slots(4))


async def hindered(engine: Engine, account: Account, why: str, *, now_s: float) -> Account:
    """The same, and it takes nothing."""
    match why:
        case "circuit":
            for _ in range(IN_A_ROW):
                account.health.note(ResultClass.RETRY, now_s=now_s, took_s=0.1)
        case "throttled":
            account.health.throttle.hold(600.0, now_s=now_s, took_s=0.0)
        case "slot":
            await account.slots.take(1)
        case "permit":
            permits = Permits(PermitRepository(engine.pool), account=account.name, rate_per_second=0.01)
            await permits.take(1)
            return replace(account, permits=permits)
        case "receiver":
            target = (TENANT, ADDRESSES[Channel.WEBHOOK])
            account.shares.begin(why, target, now_s=now_s)
            account.shares.end(why, target, now_s=now_s, answered=True)
            account.shares.throttled(target, 600.0, now_s=now_s, took_s=0.0)
        case "paused":
            return replace(account, stopped=Stop.PAUSED)
        case "broken":
            return replace(account, stopped=Stop.BROKEN)
    return account


async def fleet_of(engine: Engine, why: str, *more: Account) -> Fleet:
    """The first channel's account takes nothing, the next one's everything."""
    fleet = Fleet.of(engine, mail(), *more)
    first = await hindered(engine, hook(), why, now_s=fleet.now_s)
    fleet.accounts.replace([*fleet.accounts, first])
    return fleet


def stored(options: dict[str, Any]) -> str:
    return msgspec.json.encode(options).decode()


async def send(fleet: Fleet, **options: Any) -> UUID:
    [one] = await fleet.send(options=stored(options), **CHAIN)
    return one


async def plan(fleet: Fleet) -> None:
    assert fleet.cohort is not None
    await replace(fleet.engine, accounts=fleet.accounts).plan(fleet.cohort)


async def passes(fleet: Fleet, span: timedelta) -> None:
    """So much time, but not for the accounts: what keeps them from taking anything lasts. Who has left his cohort is
    grouped again."""
    await fleet.engine.pool.execute(
        "UPDATE work SET due_at = due_at - $1::interval, falls_back_at = falls_back_at - $1::interval, "
        "expires_at = expires_at - $1::interval", span,
    )  # fmt: skip
    assert fleet.cohort is not None
    fleet.cohort = await fleet.engine.cohorts.group(fleet.cohort.lane) or fleet.cohort


async def waits(engine: Engine) -> timedelta | None:
    """Until the next step is due; None: nothing is open."""
    found: timedelta | None = await engine.pool.fetchval("SELECT min(due_at) - now() FROM work")
    return found


async def lives(fleet: Fleet, most: timedelta) -> timedelta:
    """Drive it, and let time pass, for all, to its next due time, until nothing is open or `most` would pass; how much."""
    passed = timedelta(0)
    while True:
        await fleet.drive()
        wait = await waits(fleet.engine)
        if wait is None or passed + wait > most:
            return passed
        wait = max(wait, timedelta(0)) + timedelta(milliseconds=1)
        await passes(fleet, wait)
        fleet.now_s += wait.total_seconds()
        passed += wait
