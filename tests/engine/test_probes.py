"""Which message is the probe of a half-open account: never one that fails by itself while another waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.base import Capabilities, Message
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.health import FIRST_OPEN_S, IN_A_ROW, UNFAILED_FIRST_S, Circuit
from domain.lanes import Lane
from domain.results import ResultClass, SendResult
from infra.postgres.engine.claims import Claimed, ClaimRepository
from tests.engine.fleet import Fleet
from tests.engine.support import RETRY, TENANT, Engine

BAD, GOOD = (Channel.EMAIL, "bad@example.com"), (Channel.EMAIL, "good@example.com")


def fleet_of(engine: Engine) -> Fleet:
    """One account, over which one address fails and every other is taken."""

    def answer(message: Message) -> SendResult:
        return RETRY if message.address == BAD[1] else SendResult(ResultClass.OK)

    return Fleet.of(engine, Account("a", MemoryProvider(answer=answer), Slots(1)))


def opened(fleet: Fleet) -> None:
    """Its circuit is open."""
    [account] = fleet.accounts
    for _ in range(IN_A_ROW):
        account.health.note(ResultClass.RETRY, now_s=fleet.now_s, took_s=0.1)


def circuit(fleet: Fleet) -> Circuit:
    [account] = fleet.accounts
    return account.health.circuit(fleet.now_s)


async def failed_before(engine: Engine, ids: list[UUID], *, failures: int = 1) -> None:
    await engine.pool.execute(
        "UPDATE work SET failures = $2, attempt = $2 WHERE notification_id = ANY ($1::uuid[])", ids, failures
    )


async def test_what_has_failed_before_is_not_the_probe_while_something_else_is_due(engine: Engine) -> None:
    """Catches: four probes in a row with the same bad message, while a one-time code to a healthy mailbox expires."""
    fleet = fleet_of(engine)
    bad = await engine.accepted(8, to=BAD)
    [code] = await engine.accepted(1, to=GOOD, expires_in=timedelta(minutes=1))
    fleet.cohort = await engine.grouped()
    await engine.plan(fleet.cohort)
    await engine.pool.execute("UPDATE work SET account = 'a'")
    await failed_before(engine, bad)
    opened(fleet)
    fleet.now_s += FIRST_OPEN_S
    await fleet.drive()
    assert await engine.end(code) == ("sent", None, True)
    [provider] = [account.provider for account in fleet.accounts]
    assert isinstance(provider, MemoryProvider)
    assert provider.sent[0].address == GOOD[1], "the probe"


async def test_another_cohort_with_something_that_never_failed_comes_first(engine: Engine) -> None:
    """Whoever looks first has the probe, and each failed message may be in a cohort of its own."""
    fleet = fleet_of(engine)
    bad = await fleet.send(3, to=BAD)
    first = fleet.cohort
    assert first is not None
    await engine.plan(first)
    await failed_before(engine, bad)
    [code] = await engine.accepted(1, lane=Lane.HIGH, to=GOOD)
    other = await engine.grouped(Lane.HIGH)
    opened(fleet)
    fleet.now_s += FIRST_OPEN_S
    waits = await fleet.drive()
    assert fleet.sent() == {"a": 0}
    assert 0 < waits["a"] <= UNFAILED_FIRST_S
    fleet.cohort = other
    await fleet.drive()
    assert await engine.end(code) == ("sent", None, True)
    assert circuit(fleet) is Circuit.CLOSED


async def test_where_all_have_failed_the_one_with_the_fewest_failures_is_the_probe_after_a_moment(engine: Engine) -> None:
    """Catches: a circuit that stays open because nothing that never failed comes."""
    fleet = fleet_of(engine)
    bad, good = await engine.accepted(4, to=BAD), await engine.accepted(1, to=GOOD)
    fleet.cohort = await engine.grouped()
    await engine.plan(fleet.cohort)
    await failed_before(engine, bad, failures=2)
    await failed_before(engine, good)
    opened(fleet)
    fleet.now_s += FIRST_OPEN_S
    await fleet.drive()
    assert fleet.sent() == {"a": 0}
    fleet.now_s += UNFAILED_FIRST_S
    await fleet.drive_what_waits()
    assert await engine.end(good[0]) == ("sent", None, True)


@pytest.mark.parametrize("later_s", [0.0, UNFAILED_FIRST_S])
async def test_what_needs_no_call_is_no_probe_and_ends_all_the_same(engine: Engine, later_s: float) -> None:
    """Catches: a thousand expired messages before the first that is sent, each looked for by itself; or left for ever."""
    fleet = fleet_of(engine)
    over = await fleet.send(3, to=GOOD)
    assert fleet.cohort is not None
    await engine.plan(fleet.cohort)
    await engine.pool.execute("UPDATE work SET expires_at = now()")
    opened(fleet)
    fleet.now_s += FIRST_OPEN_S + later_s
    await fleet.drive()
    assert fleet.sent() == {"a": 0}
    assert {await engine.end(one) for one in over} == {("expired", "expired_before_hand_over", True)}
    assert circuit(fleet) is Circuit.HALF_OPEN


class Hooks(MemoryProvider):
    """Webhooks, to servers of many."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, many_servers=True)


class WatchedClaims:
    """How many claims there were, and the addresses of what they took."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.rows = 0, list[str]()
        claim = ClaimRepository.claim

        async def watched(this: ClaimRepository, *args: Any, **kwargs: Any) -> Claimed:
            claimed = await claim(this, *args, **kwargs)
            self.count += 1
            self.rows += [one.address for one in claimed.claims]
            return claimed

        monkeypatch.setattr(ClaimRepository, "claim", watched)


def held_back(account: Account, fleet: Fleet, endpoint: str) -> None:
    """It has said "not so often"."""
    target, shares = (TENANT, endpoint), account.shares
    shares.begin("call", target, now_s=fleet.now_s)
    shares.end("call", target, now_s=fleet.now_s, answered=True)
    shares.throttled(target, 600.0, now_s=fleet.now_s, took_s=0.1)


HELD, FREE = "https://held.example/x", "https://free.example/x"


@pytest.mark.parametrize("later_s", [0.0, UNFAILED_FIRST_S])
async def test_a_receiver_that_is_held_back_has_no_probe_and_nobody_looks_for_one_again_and_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, later_s: float
) -> None:
    """Caught: what is held back was claimed and given back one by one; and beside it what had failed before stayed due, so
    that it was looked for without a pause until the first second of the opening was over."""
    account = Account("hook", Hooks(channel=Channel.WEBHOOK), Slots.for_many_servers(8))
    fleet, webhook = Fleet.of(engine, account), {"channels": [Channel.WEBHOOK]}
    held = await engine.accepted(3, to=(Channel.WEBHOOK, HELD), **webhook)
    failed = await engine.accepted(2, to=(Channel.WEBHOOK, FREE), **webhook)
    fleet.cohort = await engine.grouped()
    await engine.plan(fleet.cohort)
    await engine.pool.execute("UPDATE work SET account = 'hook'")
    await failed_before(engine, failed)
    opened(fleet)
    fleet.now_s += FIRST_OPEN_S + later_s
    held_back(account, fleet, HELD)
    claims = WatchedClaims(monkeypatch)
    async with asyncio.timeout(20):
        waits = await fleet.drive()
    assert HELD not in claims.rows
    assert {row["notification_id"] for row in await engine.work()} == {*held, *([] if later_s else failed)}
    if later_s:
        assert {await engine.end(one) for one in failed} == {("sent", None, True)}
    else:
        assert claims.count <= 2
        assert 0 < waits["hook"] <= UNFAILED_FIRST_S
