"""The time of a place in a chain (`fallback_after`): from when it runs, and how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import Lane
from infra.postgres.engine.expediting import ExpediteRepository
from tests.engine.fleet import Fleet, Provider
from tests.engine.hindering import (
    AFTER,
    CHAIN,
    OPTIONS,
    Hooks,
    hindered,
    hook,
    lives,
    mail,
    passes,
    plan,
    send,
    stored,
    waits,
)
from tests.engine.support import RETRY, TENANT, Engine, window


async def test_the_time_begins_anew_with_each_place(engine: Engine) -> None:
    fleet = Fleet.of(engine, Account("hook", Hooks(answer=lambda _: RETRY), Slots(1)), mail(),
                     Account("inbox", MemoryProvider(channel=Channel.INAPP), Slots(1)))  # fmt: skip
    mails = fleet.accounts.get("mail")
    assert mails is not None
    mails.health.throttle.hold(6000.0, now_s=fleet.now_s, took_s=0.0)
    three = {**CHAIN, "channels": [*CHAIN["channels"], Channel.INAPP]}
    [one] = await fleet.send(options='{"fallback_after": "PT40S"}', **three)
    passed = await lives(fleet, AFTER * 3)
    assert 2 * AFTER - timedelta(seconds=1) <= passed <= 2 * AFTER + timedelta(seconds=2)
    assert [status for status, _ in (await engine.deliveries(one)).values()] == ["failed", "failed", "sent"]


async def test_what_a_window_put_off_has_its_time_from_the_opening(engine: Engine) -> None:
    """Catches: a time that runs while nothing may be sent, so that a channel which is down for a second at the opening is
    skipped; in the plan and at the claim."""
    fleet = Fleet.of(engine, hook(), mail())
    closed = stored({**msgspec.json.decode(window(opens_in=2)[0]), **OPTIONS})
    asked: dict[str, Any] = {"lane": Lane.LOW, "expires_in": timedelta(hours=30), **CHAIN}
    _, [planned] = await engine.planned(1, options=closed, **asked)
    [one] = await engine.accepted(1, options=stored(OPTIONS), **asked)
    fleet.cohort = await engine.grouped(Lane.LOW)
    await plan(fleet)
    await engine.pool.execute("UPDATE notification SET options = $2 WHERE id = $1", one, closed)
    await engine.pool.execute("UPDATE work SET falls_back_at = now() WHERE notification_id = $1", one)
    await fleet.drive()
    for row in await engine.work():
        assert row["falls_back_at"] - row["due_at"] == AFTER
    assert {row["notification_id"] for row in await engine.work()} == {planned, one}


async def test_what_is_hurried_has_its_time_from_now(engine: Engine) -> None:
    closed = stored({**msgspec.json.decode(window(opens_in=2)[0]), **OPTIONS})
    _, [one] = await engine.planned(1, lane=Lane.LOW, options=closed, expires_in=timedelta(hours=30), **CHAIN)
    await ExpediteRepository(engine.pool).expedite(TENANT, notification_id=one)
    [open_] = await engine.work(one)
    assert open_["falls_back_at"] - open_["due_at"] == AFTER
    assert (await waits(engine) or timedelta(0)) <= timedelta(0)


async def test_what_was_taken_waits_for_its_receipt_and_no_less(engine: Engine) -> None:
    """Taken at the end of its time, it has the whole time for its receipt; the account may be down by then."""
    fleet = Fleet.of(engine, Account("hook", Hooks(receipts=True), Slots(1)), mail())
    one = await send(fleet, **OPTIONS)
    await plan(fleet)
    await passes(fleet, AFTER - timedelta(seconds=5))
    await fleet.drive()
    assert fleet.sent() == {"hook": 1, "mail": 0}
    first = fleet.accounts.get("hook")
    assert first is not None
    await hindered(engine, first, "circuit", now_s=fleet.now_s)
    await passes(fleet, timedelta(seconds=30))
    await fleet.drive()
    assert fleet.sent()["mail"] == 0
    await passes(fleet, timedelta(seconds=30))
    await fleet.drive()
    assert fleet.sent()["mail"] == 1
    assert await engine.deliveries(one) == {"webhook": ("sent", None), "email": ("sent", None)}


async def test_what_was_sent_and_moved_goes_on_from_an_account_that_is_down(engine: Engine) -> None:
    """No receipt came over the first account, and the other takes nothing: the chain goes on, what was sent stays so."""
    within = timedelta(seconds=20)
    first = Account("a", Provider(), Slots(4), receipt_within=within)
    fleet = Fleet.of(engine, first, Account("b", Provider(), Slots(1), order=1), hook())
    chain = {**CHAIN, "channels": [Channel.EMAIL, Channel.WEBHOOK]}
    [one] = await fleet.send(options='{"fallback_after": "PT40S"}', **chain)
    await fleet.drive()
    await passes(fleet, within)
    other = fleet.accounts.get("b")
    assert other is not None
    await other.slots.take(1)
    await fleet.drive()
    [open_] = await engine.work(one)
    assert (open_["account"], open_["awaiting"]) == ("b", False)
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"a": 1, "b": 0, "hook": 1}
    assert await engine.deliveries(one) == {"email": ("sent", None), "webhook": ("sent", None)}


async def test_a_claim_that_goes_back_does_not_wait_beyond_it(engine: Engine) -> None:
    """Catches: a receiver that asks for five minutes, of a message that was claimed with others to it."""
    fleet = Fleet.of(engine, hook(), mail())
    one = await send(fleet, **OPTIONS)
    await plan(fleet)
    assert fleet.cohort is not None
    [claim] = await engine.claim_over(fleet.cohort.id, "hook")
    back = replace(engine.decider(fleet.cohort).returned(claim), wait=timedelta(minutes=5))
    await engine.claims.give_back([back])
    [open_] = await engine.work(one)
    assert open_["due_at"] == open_["falls_back_at"]
