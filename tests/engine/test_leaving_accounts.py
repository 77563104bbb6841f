"""What is due over an account that takes nothing leaves it, or waits for the first that does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.base import Capabilities
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.health import FIRST_OPEN_S, IN_A_ROW
from domain.results import ResultClass
from tests.engine.driving import HeldProvider
from tests.engine.fleet import AFTER, Fleet, Provider, account, reasons
from tests.engine.hindering import AFTER as WITHIN
from tests.engine.hindering import CHAIN, OPTIONS, mail, passes, plan, stored
from tests.engine.support import Engine


class HeldHooks(HeldProvider):
    """Webhooks whose calls wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__(channel=Channel.WEBHOOK)

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, many_servers=True)


def throttle(fleet: Fleet, name: str, wait_s: float) -> None:
    found = fleet.accounts.get(name)
    assert found is not None
    found.health.throttle.hold(wait_s, now_s=fleet.now_s, took_s=0.0)


async def test_a_chain_goes_on_though_the_account_it_leaves_takes_nothing(engine: Engine) -> None:
    """Caught: what was to leave a throttled account was put off until that could be called again, or until it expired."""
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    fleet = Fleet.of(engine, account("mail", provider=Provider), Account("hook", hook, Slots(4)))
    [one] = await fleet.send(options=AFTER, user="u-1", channels=[Channel.EMAIL, Channel.WEBHOOK], strategy="fallback")
    await fleet.drive()
    throttle(fleet, "mail", 600.0)
    assert await fleet.drive_what_waits() == {}
    assert await engine.deliveries(one) == {"email": ("sent", None), "webhook": ("sent", None)}


async def test_a_missing_receipt_speaks_against_the_account_that_sent(engine: Engine) -> None:
    """Caught: the step was first moved because its account was throttled, and then away from the other one, which had sent
    nothing."""
    fleet = Fleet.of(
        engine,
        account("a", provider=Provider, receipt_within=timedelta(seconds=20)),
        account("b", order=1, provider=Provider, receipt_within=timedelta(seconds=20)),
        account("c", order=2, provider=Provider),
    )
    [one] = await fleet.send()
    await fleet.drive()
    throttle(fleet, "a", 600.0)
    await fleet.drive_what_waits()
    assert fleet.sent() == {"a": 1, "b": 1, "c": 0}
    assert await reasons(engine, one) == ["receipt_overdue"]


async def test_what_waits_for_several_accounts_waits_for_the_first_of_them(engine: Engine) -> None:
    """Caught: an OTP waited ten minutes for the account that was throttled, though the other was to be tried in seconds."""
    fleet = Fleet.of(engine, account("a"), account("b", order=1))
    [one] = await fleet.send()
    await engine.plan(fleet.cohort)  # type: ignore[arg-type]
    await engine.pool.execute("UPDATE work SET account = 'a'")
    throttle(fleet, "a", 600.0)
    for _ in range(IN_A_ROW):
        fleet.accounts.get("b").health.note(ResultClass.RETRY, now_s=fleet.now_s, took_s=0.1)  # type: ignore[union-attr]
    await fleet.drive()
    late = f"SELECT count(*) FROM work WHERE due_at > now() + interval '{FIRST_OPEN_S} seconds'"
    assert await engine.pool.fetchval(late) == 0
    fleet.now_s += FIRST_OPEN_S + 1
    await engine.make_due()
    fleet.cohort = await engine.grouped()
    assert await fleet.drive() == {}
    assert fleet.sent() == {"a": 0, "b": 1}
    assert await engine.end(one) == ("sent", None, True)


async def test_a_chain_whose_time_is_over_leaves_a_receiver_that_may_have_no_more(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: it goes back each time, and its chain waits for as long as that receiver hangs."""
    monkeypatch.setattr(Account, "unproven_at_once", lambda *_, taken: taken)
    hooks = HeldHooks()
    fleet = Fleet.of(engine, mail(), Account("hook", hooks, Slots.for_many_servers(16)))
    ids = await fleet.send(12, options=stored(OPTIONS), **CHAIN)
    await plan(fleet)
    await passes(fleet, WITHIN)
    driving = asyncio.create_task(fleet.drive())
    await hooks.until(lambda: hooks.inside == 8)
    await hooks.let_go()
    await driving
    assert fleet.sent() == {"mail": 4, "hook": 8}
    left = {"webhook": ("failed", "not_taken_in_time"), "email": ("sent", None)}
    assert [await engine.deliveries(one) for one in ids].count(left) == 4
