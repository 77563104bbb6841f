"""A chain leaves a channel for what the channel does: not for an outage of ours, and not where a message may be there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.base import Capabilities
from domain.lanes import OVERLOOKED_AFTER, Lane
from infra.postgres.engine.expediting import ExpediteRepository
from infra.postgres.engine.setting_aside import Unreadable
from tests.engine.fleet import Fleet
from tests.engine.hindering import (
    AFTER,
    CHAIN,
    HINDRANCES,
    OPTIONS,
    Hooks,
    fleet_of,
    hindered,
    lives,
    mail,
    passes,
    plan,
    send,
    stored,
    waits,
)
from tests.engine.support import LOST, TENANT, Engine

AN_OUTAGE = OVERLOOKED_AFTER + timedelta(minutes=10)


class Recognising(Hooks):
    """Its receivers know a message that comes again by its id."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, idempotent=True)


@HINDRANCES
async def test_after_an_outage_of_ours_a_channel_has_what_was_left_to_it(engine: Engine, why: str) -> None:
    """Caught: workers were away for ten minutes, and with the first permit that was missing, or the first slot, all of the
    backlog went over the next channel."""
    fleet = await fleet_of(engine, why)
    await send(fleet, **OPTIONS)
    await plan(fleet)
    await passes(fleet, AN_OUTAGE)
    await fleet.drive()
    assert fleet.sent()["mail"] == 0
    wait = await waits(engine)
    assert wait is not None
    assert timedelta(0) < wait <= AFTER
    passed = await lives(fleet, AN_OUTAGE)
    assert passed > AFTER / 2 or fleet.sent()["hook"] == 1, "waiting for slots takes time of its own; circuits close"
    assert sum(fleet.sent().values()) == 1


@HINDRANCES
async def test_what_may_be_there_already_goes_nowhere_else(engine: Engine, why: str) -> None:
    """Caught: a webhook was taken and its answer lost, the receiver stayed slow, and the message went by e-mail as well,
    though it was not to come twice."""
    account = Account("hook", Recognising(answer=lambda _: LOST), Slots(1))
    fleet = Fleet.of(engine, account, mail())
    one = await send(fleet, on_unknown="hold", **OPTIONS)
    await fleet.drive()
    assert fleet.sent() == {"hook": 1, "mail": 0}
    down = await hindered(engine, account, why, now_s=fleet.now_s)
    fleet.accounts.replace([*(a for a in fleet.accounts if a.name != "hook"), down])
    await lives(fleet, AFTER * 2)
    assert fleet.sent()["mail"] == 0
    assert [row["n"] for row in await engine.work(one)] == [1]


async def test_what_a_busy_receiver_bounces_after_an_outage_of_ours_keeps_what_was_left_to_it(engine: Engine) -> None:
    """Caught: it went back with a time that had passed in the outage, and left its channel a moment later."""
    fleet = await fleet_of(engine, "receiver")
    await send(fleet, **OPTIONS)
    await plan(fleet)
    await passes(fleet, AN_OUTAGE)
    await bounced(fleet, timedelta(seconds=2))
    await passes(fleet, timedelta(seconds=3))
    await fleet.drive()
    assert fleet.sent() == {"mail": 0, "hook": 0}
    passed = await lives(fleet, AN_OUTAGE)
    assert AFTER - timedelta(seconds=9) < passed < AFTER, "not longer either"
    assert fleet.sent() == {"mail": 1, "hook": 0}


async def test_what_is_bounced_for_longer_leaves_when_its_time_is_over(engine: Engine) -> None:
    fleet = await fleet_of(engine, "receiver")
    await send(fleet, **OPTIONS)
    await plan(fleet)
    await passes(fleet, AN_OUTAGE)
    await bounced(fleet, timedelta(minutes=5))
    [open_] = await engine.work()
    assert open_["due_at"] == open_["falls_back_at"]
    assert (await waits(engine) or AN_OUTAGE) <= AFTER


async def bounced(fleet: Fleet, wait: timedelta) -> None:
    """Claimed with others to its receiver, who asks for so long."""
    assert fleet.cohort is not None
    [claim] = await fleet.engine.claim_over(fleet.cohort.id, "hook")
    assert not claim.has_waited
    await fleet.engine.claims.give_back([replace(fleet.engine.decider(fleet.cohort).returned(claim), wait=wait)])


async def test_what_waited_for_another_version_of_ours_has_what_was_left_to_it(engine: Engine) -> None:
    """Caught: in a deploy rows waited for a worker that could read them, and then left a channel that was throttled."""
    fleet = await fleet_of(engine, "throttled")
    one = await send(fleet, **OPTIONS)
    await plan(fleet)
    assert fleet.cohort is not None
    [claim] = await engine.claim_over(fleet.cohort.id, "hook")
    await engine.claims.set_aside([Unreadable(one, claim.n, claim.attempt, claim.faults, "ValueError")])
    wait = await waits(engine)
    assert wait is not None
    [open_] = await engine.work()
    assert open_["falls_back_at"] - open_["due_at"] > AFTER - timedelta(seconds=5)
    await passes(fleet, wait)
    await fleet.drive()
    assert fleet.sent()["mail"] == 0


async def test_what_is_hurried_after_an_outage_of_ours_has_what_was_left_to_it(engine: Engine) -> None:
    """Caught: what nobody had taken up meanwhile counted as looked at, because somebody had hurried it."""
    asked: dict[str, Any] = {"lane": Lane.LOW, "options": stored(OPTIONS), **CHAIN}
    _, [one] = await engine.planned(1, **asked)
    await engine.pool.execute(
        "UPDATE work SET cohort = NULL, due_at = due_at - $1::interval, falls_back_at = falls_back_at - $1::interval",
        AN_OUTAGE,
    )  # fmt: skip
    await ExpediteRepository(engine.pool).expedite(TENANT, notification_id=one)
    [open_] = await engine.work(one)
    assert open_["falls_back_at"] - open_["due_at"] > AFTER - timedelta(seconds=5)


@pytest.mark.parametrize("why", ["paused", "circuit"])
async def test_what_is_hurried_does_not_leave_its_channel_at_once(engine: Engine, why: str) -> None:
    """Caught: it was put off until its time was over, and hurrying it took that for no time at all."""
    fleet = await fleet_of(engine, why)
    one = await send(fleet, **OPTIONS)
    await fleet.drive()
    await ExpediteRepository(engine.pool).expedite(TENANT, notification_id=one)
    [open_] = await engine.work(one)
    assert open_["falls_back_at"] - open_["due_at"] > AFTER - timedelta(seconds=10)
