"""Several accounts of one channel: failover, circuits, shares and permits."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from channels.base import Capabilities
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.health import FIRST_OPEN_S, IN_A_ROW, Circuit
from domain.permits import Bucket
from domain.results import ResultClass, SendResult
from infra.postgres.engine.permits import PermitRepository
from tests.engine.fleet import Fleet, account, reasons
from tests.engine.support import PERMANENT, RECIPIENT, RETRY, Engine

RATE = SendResult(ResultClass.RATE, code="429", retry_after=timedelta(minutes=5))
CONFIG = SendResult(ResultClass.CONFIG, code="535")


@pytest.mark.parametrize("answer", [RETRY, CONFIG, RATE])
async def test_a_failure_moves_on_at_once_and_costs_no_attempt(engine: Engine, answer: SendResult) -> None:
    fleet = Fleet.of(engine, account("a", answer), account("b", order=1))
    [one] = await fleet.send()
    assert await fleet.drive() == {}
    assert fleet.sent() == {"a": 1, "b": 1}
    assert await engine.end(one) == ("sent", None, True)
    assert await reasons(engine, one) == ["failed"]
    assert await engine.pool.fetchval("SELECT account FROM delivery") == "b"


@pytest.mark.parametrize("answer", [RECIPIENT, PERMANENT])
async def test_what_no_other_account_could_change_does_not_move(engine: Engine, answer: SendResult) -> None:
    fleet = Fleet.of(engine, account("a", answer), account("b", order=1))
    [one] = await fleet.send()
    assert await fleet.drive() == {}
    assert fleet.sent() == {"a": 1, "b": 0}
    assert (await engine.end(one))[0] == "failed"


async def test_when_all_have_failed_it_waits_and_begins_with_the_best_again(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("a", RETRY), account("b", RETRY, order=1), account("c", RETRY, order=2))
    [one] = await fleet.send()
    waits = await fleet.drive()
    assert fleet.sent() == {"a": 1, "b": 1, "c": 1}
    assert list(waits) == ["c"], "the last one is asked again, unless another is free by then"
    [open_] = await engine.work(one)
    assert (open_["failures"], open_["tried"]) == (1, None)
    assert await fleet.drive_what_waits() == {}
    assert await engine.end(one) == ("sent", None, True)


async def test_a_greylisted_recipient_waits_and_opens_no_circuit(engine: Engine) -> None:
    """Catches: five greylisted mailboxes in a row that stop a healthy server for everybody else."""
    greylisted = SendResult(ResultClass.RETRY, code="450 4.7.1", of_recipient=True)
    fleet = Fleet.of(engine, account("a", *[greylisted] * IN_A_ROW * 2), account("b", order=1))
    await fleet.send(IN_A_ROW * 2)
    waits = await fleet.drive()
    assert fleet.sent() == {"a": IN_A_ROW * 2, "b": 0}
    assert list(waits) == ["a"]
    only = fleet.accounts.get("a")
    assert only is not None
    assert only.health.circuit(fleet.now_s) is Circuit.CLOSED


async def test_an_unknown_moves_only_where_it_is_sent_again(engine: Engine) -> None:
    lost = SendResult(ResultClass.UNKNOWN, code="answer_lost")
    held = Fleet.of(engine, account("a", lost), account("b", order=1))
    [one] = await held.send()
    await held.drive()
    assert await engine.end(one) == ("unknown", "answer_lost", True)
    assert held.sent() == {"a": 1, "b": 0}
    again = Fleet.of(engine, account("a", lost), account("b", order=1))
    [two] = await again.send(options='{"on_unknown": "resend"}')
    await again.drive()
    await again.drive_what_waits()
    assert again.sent() == {"a": 1, "b": 1}
    assert await engine.end(two) == ("sent", None, True)


async def test_an_account_that_went_away_is_replaced_and_the_timeline_says_so(engine: Engine) -> None:
    before = Fleet.of(engine, account("a", RETRY))
    [one] = await before.send()
    await before.drive()
    after = Fleet.of(engine, account("b"))
    after.cohort = before.cohort
    assert await after.drive_what_waits() == {}
    assert after.sent() == {"b": 1}
    assert await engine.end(one) == ("sent", None, True)
    assert await reasons(engine, one) == ["account_gone"]


async def test_an_open_circuit_is_gone_round_without_a_claim(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("a"), account("b", order=1))
    [one] = await fleet.send()
    await engine.plan(fleet.cohort)  # type: ignore[arg-type]
    await engine.pool.execute("UPDATE work SET account = 'a'")
    for _ in range(IN_A_ROW):
        fleet.accounts.get("a").health.note(ResultClass.RETRY, now_s=fleet.now_s, took_s=0.1)  # type: ignore[union-attr]
    assert await fleet.drive() == {}
    assert fleet.sent() == {"a": 0, "b": 1}
    assert await engine.end(one) == ("sent", None, True)
    assert await reasons(engine, one) == ["circuit_open"]


async def test_with_one_account_an_open_circuit_parks_what_is_due_and_spends_no_attempt(engine: Engine) -> None:
    """Catches: hammering a provider that is down, and using up the retry table on it."""
    down = [True]
    provider = MemoryProvider(answer=lambda _: RETRY if down else SendResult(ResultClass.OK))
    fleet = Fleet.of(engine, Account("a", provider, Slots(4)))
    ids = await fleet.send(30)
    waits = await fleet.drive()
    only = fleet.accounts.get("a")
    assert only is not None
    assert only.health.circuit(fleet.now_s) is Circuit.OPEN
    assert fleet.sent()["a"] < 12, "the calls that were in flight with the failing ones"
    assert 0 < waits["a"] <= FIRST_OPEN_S
    untried = [w for w in await engine.work() if w["attempt"] == 0]
    assert len(untried) >= 15
    down.clear()
    fleet.now_s += FIRST_OPEN_S + 1
    while await fleet.drive_what_waits():
        fleet.now_s += 1
    assert {(await engine.end(i))[0] for i in ids} == {"sent"}


class Hooks(MemoryProvider):
    """One whose messages go to servers of their recipients."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, many_servers=True)


async def test_receivers_that_are_down_open_no_circuit_for_others(engine: Engine) -> None:
    """Caught: five answers in a row from one tenant's broken webhook stopped those of everybody."""
    fleet = Fleet.of(engine, replace(account("a", *[RETRY] * (IN_A_ROW + 1), provider=Hooks), slots=Slots(64)))
    ids = await fleet.send(30)
    await fleet.drive()
    assert fleet.sent()["a"] == 30
    assert [(await engine.end(i))[0] for i in ids].count("sent") == 30 - IN_A_ROW - 1


async def test_half_open_sends_one_probe_first(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("a", RETRY))
    only = fleet.accounts.get("a")
    assert only is not None
    for _ in range(IN_A_ROW):
        only.health.note(ResultClass.RETRY, now_s=fleet.now_s, took_s=0.1)
    fleet.now_s += FIRST_OPEN_S + 0.1
    await fleet.send(10)
    await fleet.drive()
    assert fleet.sent() == {"a": 1}
    assert only.health.circuit(fleet.now_s) is Circuit.OPEN


async def test_tenants_use_their_own_accounts(engine: Engine) -> None:
    fleet = Fleet.of(engine, account("default"), account("acme/own", tenant="acme"))
    for tenant in ("acme", "other"):
        await fleet.send(tenant=tenant)
        await fleet.drive()
    assert fleet.sent() == {"default": 1, "acme/own": 1}


async def test_permits_park_what_is_over_the_rate_each_to_its_turn(engine: Engine) -> None:
    leases = PermitRepository(engine.pool)
    limited = account("a", permits=Permits(leases, account="a", rate_per_second=2))
    fleet = Fleet.of(engine, limited)
    await fleet.send(6)
    waits = await fleet.drive()
    assert fleet.sent() == {"a": 1}
    assert 0 < waits["a"] <= 0.5
    due = sorted(w["due_at"] for w in await engine.work())
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(due)]
    assert all(abs(gap - 0.5) < 0.001 for gap in gaps)
    assert limited.slots.free == 4, "no slot waits for a permit"


async def test_all_workers_together_stay_below_the_rate(engine: Engine) -> None:
    """Ten processes ask as fast as they can, over real time; PostgreSQL says how long it took."""
    leases, bucket = PermitRepository(engine.pool), Bucket.of(50)
    got = 0

    async def clock_s() -> float:
        return float((await engine.pool.fetchval("SELECT clock_timestamp()")).timestamp())

    async def worker() -> None:
        nonlocal got
        for _ in range(12):
            granted = await leases.lease("a", bucket=bucket, wanted=7)
            got += granted.count
            await asyncio.sleep(0.05)

    began_s = await clock_s()
    await asyncio.gather(*(worker() for _ in range(10)))
    took_s = await clock_s() - began_s
    assert 1 < got <= bucket.burst + bucket.per_second * took_s


async def test_shares_follow_the_weights(engine: Engine) -> None:
    spread = iter(k / 40 for k in range(40))
    accounts = Accounts([account("a", weight=3), account("b", weight=1)], spread=lambda: next(spread))
    names = Counter(accounts.first("acme", Channel.EMAIL).name for _ in range(40))  # type: ignore[union-attr]
    assert names == {"a": 30, "b": 10}


async def test_an_old_epoch_neither_parks_nor_moves(engine: Engine) -> None:
    """Catches: the workflow that was given up puts off, or sends elsewhere, what the new one is about to hand over."""
    cohort, [one] = await engine.planned(1)
    await engine.redriven(cohort)
    [before] = await engine.work(one)
    hour = timedelta(hours=1)
    await engine.claims.queue.park(cohort, account="memory-email", wait=hour, spacing=hour)
    await engine.claims.queue.move(cohort, account="memory-email", to="other", detail={})
    [after] = await engine.work(one)
    assert (after["due_at"], after["account"]) == (before["due_at"], before["account"])
