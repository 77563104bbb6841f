"""What has waited for long enough leaves an account that takes nothing: not one that takes something again by then."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domain.lanes import Lane
from domain.permits import PermitRank
from infra.postgres.engine.claims import Claimed, ClaimRepository
from tests.engine.driving import hand_over
from tests.engine.fleet import Fleet
from tests.engine.hindering import AFTER, CHAIN, HINDRANCES, OPTIONS, fleet_of, passes, plan, send, stored
from tests.engine.support import Engine

AT_ONCE = 2
ALL = 5


class ThenFree(ClaimRepository):
    """As soon as the first have left it, the account takes something again."""

    def __init__(self, fleet: Fleet, why: str) -> None:
        super().__init__(fleet.engine.pool)
        self._fleet = fleet
        self._why = why
        self.left: list[int] = []
        """How many were claimed to leave it, each time."""

    async def claim(self, *arguments: Any, **options: Any) -> Claimed:
        claimed = await super().claim(*arguments, **options)
        if options["call_timeout"] == timedelta(0):
            self.left.append(len(claimed.claims))
            if len(self.left) == 1:
                await free_again(self._fleet, self._why)
        return claimed


async def free_again(fleet: Fleet, why: str) -> None:
    account = fleet.accounts.get("hook")
    assert account is not None
    match why:
        case "circuit" | "throttled" | "receiver":
            fleet.now_s += 601.0
        case "slot":
            account.slots.give()
        case "permit":
            await fleet.engine.pool.execute("UPDATE permit SET left_over = 1")
        case _:
            others = [one for one in fleet.accounts if one.name != "hook"]
            fleet.accounts.replace([*others, replace(account, stopped=None)])


async def waited(engine: Engine, why: str) -> Fleet:
    """All of them have waited for long enough, and the account takes nothing yet."""
    fleet = await fleet_of(engine, why)
    await engine.accepted(ALL - 1, options=stored(OPTIONS), **CHAIN)
    await send(fleet, **OPTIONS)
    await plan(fleet)
    await engine.pool.execute("UPDATE work SET due_at = now(), falls_back_at = now()")
    return fleet


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.handing_over.account_loop.MOST_CALLS_A_CLAIM", AT_ONCE)


async def over_the_hook(fleet: Fleet, claims: ClaimRepository) -> None:
    assert fleet.cohort is not None
    passing = hand_over(fleet.engine, fleet.cohort, fleet.accounts, claims=claims)
    await passing.account("hook")
    await passing.close()


@HINDRANCES
async def test_the_rest_stays_with_an_account_that_takes_something_again(engine: Engine, why: str) -> None:
    """Caught: once it had been found to take nothing, all that had waited for long enough left it, thousands, though a
    slot, a permit or the circuit was free, or somebody had resumed it, the moment after."""
    fleet = await waited(engine, why)
    claims = ThenFree(fleet, why)
    await over_the_hook(fleet, claims)
    one = {"circuit", "permit"}  # one probe, one permit: for as long as that takes it takes nothing more
    assert fleet.sent()["hook"] == (1 if why in one else ALL - AT_ONCE)
    assert claims.left[0] == AT_ONCE
    left = await engine.pool.fetchval("SELECT count(*) FROM delivery WHERE channel = 'webhook' AND status = 'failed'")
    assert left == ALL - fleet.sent()["hook"]
    assert await engine.pool.fetchval("SELECT count(*) FROM work WHERE account = 'hook'") == 0


@HINDRANCES
async def test_all_leave_one_that_still_takes_nothing_and_it_is_asked_no_more_often_than_they(
    engine: Engine, why: str
) -> None:
    """Catches: a look that finds it free, a claim that finds it taken, and so on for ever."""
    fleet = await waited(engine, why)
    claims = ThenFree(fleet, "")
    claims.left.append(0)
    await over_the_hook(fleet, claims)
    assert fleet.sent() == {"mail": 0, "hook": 0}
    assert [count for count in claims.left if count] == [2, 2, 1]
    assert len(claims.left) <= 5


async def test_what_leaves_is_owed_no_permit(engine: Engine) -> None:
    """Caught: codes left their channel because its rate was too low, and for the next half minute permits were kept there
    for them."""
    fleet = await fleet_of(engine, "permit")
    await engine.accepted(3, options=stored(OPTIONS), lane=Lane.HIGH, **CHAIN)
    fleet.cohort = await engine.grouped(Lane.HIGH)
    await plan(fleet)
    await high(fleet)
    assert await engine.pool.fetchval("SELECT owed FROM permit") > 0, "what waits will ask again"
    await engine.pool.execute("UPDATE permit SET owed = 0, owed_until = NULL")
    await passes(fleet, AFTER)
    await high(fleet)
    assert await engine.pool.fetchval("SELECT coalesce(owed, 0) FROM permit") == 0
    assert await engine.pool.fetchval("SELECT owed_until FROM permit") is None
    assert await engine.pool.fetchval("SELECT count(*) FROM work WHERE account = 'hook'") == 0


async def high(fleet: Fleet) -> None:
    assert fleet.cohort is not None
    passing = hand_over(fleet.engine, fleet.cohort, fleet.accounts, rank=PermitRank.HIGH)
    await passing.account("hook")
    await passing.close()
