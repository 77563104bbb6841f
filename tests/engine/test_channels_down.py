"""A chain leaves a channel that takes nothing within `fallback_after`, first for another account; never one that works."""

from __future__ import annotations

from activities.handing_over.decisions import STOPPED_LOOK
from tests.engine.fleet import Fleet, reasons
from tests.engine.hindering import (
    AFTER,
    HINDRANCES,
    OPTIONS,
    TOLD,
    fleet_of,
    hindered,
    hook,
    mail,
    passes,
    plan,
    send,
)
from tests.engine.support import Engine


@HINDRANCES
async def test_the_next_channel_gets_it_within_the_time(engine: Engine, why: str) -> None:
    """Caught: the time counted from the moment at which a provider took it, so that in an outage nothing fell back."""
    fleet = await fleet_of(engine, why)
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    assert fleet.sent() == {"mail": 0, "hook": 0}
    [open_] = await engine.work(one)
    assert open_["n"] == 1
    assert open_["due_at"] <= open_["falls_back_at"], "nothing waits beyond it"
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"mail": 1, "hook": 0}
    assert await engine.work(one) == []
    assert await engine.deliveries(one) == {"webhook": ("failed", "not_taken_in_time"), "email": ("sent", None)}
    said = {"channel": "email", "after": "webhook", "reason": TOLD[why]}
    assert await engine.detail(one, "fallback") == said
    assert (await engine.end(one))[0] == "sent"


@HINDRANCES
async def test_without_a_time_it_waits_for_its_account(engine: Engine, why: str) -> None:
    """As ever; also where it has another channel. The last place of a chain waits too."""
    fleet = await fleet_of(engine, why)
    one = await send(fleet)
    await fleet.drive()
    await passes(fleet, max(AFTER, STOPPED_LOOK))
    await fleet.drive()
    [open_] = await engine.work(one)
    assert (open_["n"], open_["falls_back_at"]) == (1, None)
    assert fleet.sent() == {"mail": 0, "hook": 0}


@HINDRANCES
async def test_another_account_goes_before_the_next_channel(engine: Engine, why: str) -> None:
    fleet = await fleet_of(engine, why)
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    other = hook("other", order=1)
    fleet.accounts.replace([*fleet.accounts, other])
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"mail": 0, "hook": 0, "other": 1}
    assert await reasons(engine, one) == [TOLD[why]]
    assert await engine.deliveries(one) == {"webhook": ("sent", None)}


async def test_when_no_account_of_the_channel_takes_it_the_next_channel_does(engine: Engine) -> None:
    """It moves on from the one to the other, and is not sent round between them."""
    fleet = await fleet_of(engine, "slot")
    fleet.accounts.replace([*fleet.accounts, await hindered(engine, hook("other", order=1), "slot", now_s=fleet.now_s)])
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    await passes(fleet, AFTER)
    await fleet.drive()
    assert fleet.sent() == {"mail": 1, "hook": 0, "other": 0}
    assert await reasons(engine, one) == ["busy"]
    assert (await engine.deliveries(one))["webhook"] == ("failed", "not_taken_in_time")


async def test_an_account_that_works_gets_it_however_late(engine: Engine) -> None:
    """Catches: a backlog, or a worker that was away for a minute, that skips a channel which is well."""
    fleet = Fleet.of(engine, hook(), mail())
    one = await send(fleet, **OPTIONS)
    await plan(fleet)
    await passes(fleet, AFTER * 2)
    await fleet.drive()
    assert fleet.sent() == {"hook": 1, "mail": 0}
    assert await engine.deliveries(one) == {"webhook": ("sent", None)}


async def test_the_last_place_waits_as_long_as_it_lives(engine: Engine) -> None:
    fleet = await fleet_of(engine, "circuit")
    mails = fleet.accounts.get("mail")
    assert mails is not None
    mails.health.throttle.hold(6000.0, now_s=fleet.now_s, took_s=0.0)
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    await passes(fleet, AFTER)
    await fleet.drive()
    [open_] = await engine.work(one)
    assert (open_["n"], open_["falls_back_at"]) == (2, None)
