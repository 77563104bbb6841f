"""What is lost: not what the database's clock calls overdue, which somebody may just have set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from activities.handing_over.losses import FORGOTTEN_AFTER_S, TOLD_WITHIN_S, Losses
from activities.recording.patience import RETRY_MOST_S
from activities.sweep import Sweep, SweepRepositories
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import CLAIM_WINDOW, FLUSH_MARGIN
from infra.clock import ManualClock
from infra.postgres.database import COMMAND_TIMEOUT_S
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.step_outcome import StepOutcome
from tests.engine.driving import HeldProvider, SignallingOutcomes, activities, drive, hand_over
from tests.engine.fleet import AFTER
from tests.engine.gates import Cut, Gate, gated
from tests.engine.reported_ways import CHAIN, two_accounts
from tests.engine.support import OK, RETRY, Engine
from tests.engine.sweeping import DriverTwin, sweep_of

EMAIL, INAPP = Channel.EMAIL, Channel.INAPP
TAKES = CLAIM_WINDOW + timedelta(seconds=1) + FLUSH_MARGIN
"""Over an account of memory: its calls take a second at the most."""
MOMENT = timedelta(milliseconds=500)


async def set_forward(engine: Engine) -> None:
    """The database's clock, by an hour: it cannot be set here, so what was claimed before moves the other way."""
    await engine.pool.execute("UPDATE work SET unknown_at = unknown_at - interval '1 hour' WHERE state = 1")


async def ids(losses: Losses, cohort: UUID | None) -> list[UUID]:
    return [claim.notification_id for claim in await losses.of(cohort, limit=9)]


async def test_the_turn_of_another_account_calls_nothing_unknown(engine: Engine) -> None:
    """Caught: a cohort's e-mails were being sent when the clock was set forward, and the turn of its in-app messages in the
    same process found them overdue: `unknown`, in the high lane sent a second time."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[EMAIL, INAPP])
    provider = HeldProvider()
    accounts = Accounts([
        Account("memory-email", provider, Slots(2)),
        Account("memory-inapp", MemoryProvider(channel=INAPP), Slots(2)),
    ])  # fmt: skip
    clock = ManualClock()
    activity = activities(engine, accounts=accounts, clock=clock)
    sending = asyncio.create_task(ActivityEnvironment().run(activity.deliver, drive(cohort, "memory-email")))
    await provider.until(lambda: provider.inside == 1)
    await set_forward(engine)
    other = await ActivityEnvironment().run(activity.deliver, drive(cohort, "memory-inapp"))
    assert "unknown" not in await engine.events(one)
    assert other.waits_s["memory-email"] > 0, "it would be asked about without a pause"
    await provider.let_go()
    await sending
    assert await engine.deliveries(one) == {"email": ("sent", None), "inapp": ("sent", None)}
    assert "unknown" not in await engine.events(one)


async def test_a_sweep_that_has_only_begun_to_look_calls_nothing_lost(engine: Engine) -> None:
    """Caught: a worker that started after the step knew nothing of it, and a step between its look at the clock and its
    look at the rows was one too."""
    cohort, [one] = await engine.planned(1)
    claims = await engine.claim(cohort)
    await set_forward(engine)
    clock = ManualClock()
    sweep = sweep_of(engine, DriverTwin(), clock=clock)
    assert (await sweep.run_once()).unknown == 0
    clock.advance(TAKES - MOMENT)
    assert (await sweep.run_once()).unknown == 0
    await engine.answer(claims)
    assert await engine.end(one) == ("sent", None, True)


@pytest.mark.parametrize("looks", ["the cohort", "the sweep"])
async def test_what_nobody_brings_home_is_lost_all_the_same(engine: Engine, looks: str) -> None:
    """Once it was seen for as long as a hand-over over its account takes."""
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    await set_forward(engine)
    clock = ManualClock()
    losses, of = Losses(engine.claims, engine.accounts, clock=clock), cohort.id if looks == "the cohort" else None
    assert await ids(losses, of) == []
    clock.advance(TAKES - MOMENT)
    assert await ids(losses, of) == []
    clock.advance(MOMENT)
    assert await ids(losses, of) == [one]


async def test_a_cohort_begins_to_look_before_they_are_overdue(engine: Engine) -> None:
    """Otherwise what a killed worker had in hand would be waited for twice as long."""
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    clock = ManualClock()
    losses = Losses(engine.claims, engine.accounts, clock=clock)
    assert await ids(losses, cohort.id) == []
    clock.advance(TAKES)
    assert await ids(losses, cohort.id) == [], "not by the database's clock"
    await engine.lose(one)
    assert await ids(losses, cohort.id) == [one]


async def test_another_attempt_is_waited_for_anew(engine: Engine) -> None:
    """Catches: a look that goes by the step. The retry would be lost the moment that it is claimed."""
    cohort, [one] = await engine.planned(1)
    clock = ManualClock()
    losses = Losses(engine.claims, engine.accounts, clock=clock)
    claims = await engine.claim(cohort)
    assert await ids(losses, cohort.id) == []
    await engine.answer(claims, RETRY)
    await engine.make_due()
    clock.advance(TAKES)
    claims = await engine.claim(cohort)
    await set_forward(engine)
    assert await ids(losses, cohort.id) == []
    await engine.answer(claims, OK)
    assert await engine.end(one) == ("sent", None, True)


async def test_what_was_in_hand_over_an_account_that_is_gone_is_waited_for_longest(engine: Engine) -> None:
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    await set_forward(engine)
    clock = ManualClock()
    losses = Losses(engine.claims, Accounts([]), clock=clock)
    await ids(losses, cohort.id)
    clock.advance(HAND_OVER_LIMIT - MOMENT)
    assert await ids(losses, cohort.id) == []
    clock.advance(MOMENT)
    assert await ids(losses, cohort.id) == [one]


async def test_losses_remember_no_cohort_for_ever(engine: Engine) -> None:
    """Catches: a process that grows with each cohort that another one took over."""
    first, _ = await engine.planned(1)
    await engine.claim(first)
    clock = ManualClock()
    losses = Losses(engine.claims, engine.accounts, clock=clock)
    await ids(losses, first.id)
    clock.advance(timedelta(seconds=FORGOTTEN_AFTER_S + 1))
    second, _ = await engine.planned(1)
    await ids(losses, second.id)
    assert losses._seen == {}


async def sighted(engine: Engine, losses: Losses, clock: ManualClock, *, of: UUID | None = None) -> None:
    """What is in hand and overdue was seen for long enough to be lost."""
    await ids(losses, of)
    clock.advance(TAKES)


async def met_by_a_look(engine: Engine, losses: Losses, cohort: CohortRow) -> None:
    away = Losses(
        ClaimRepository(gated(engine.pool, Cut("state = 1"))), engine.accounts, clock=ManualClock(), outages=losses.outages
    )
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await away.of(None, limit=9)


async def met_by_a_claim(engine: Engine, losses: Losses, cohort: CohortRow) -> None:
    claims = ClaimRepository(gated(engine.pool, Cut("unknown_at = now() + $6")))
    passing = hand_over(engine, cohort, engine.accounts, claims=claims, losses=losses)
    await passing.account("memory-email")
    await passing.close()


async def met_by_a_flush(engine: Engine, losses: Losses, cohort: CohortRow) -> None:
    """It is tried again until it works, and nobody else hears of it."""
    outcomes = OutcomeRepository(gated(engine.pool, Cut("COMMIT")))
    passing = hand_over(engine, cohort, engine.accounts, outcomes=outcomes, losses=losses)
    await passing.account("memory-email")
    await passing.close()


async def met_by_an_entry(engine: Engine, losses: Losses, cohort: CohortRow) -> None:
    """A drive's first statement, before it looks."""
    activity = activities(engine, pool=gated(engine.pool, Cut("")), losses=losses)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await ActivityEnvironment().run(activity.deliver, drive(cohort))


async def met_by_the_sweep(engine: Engine, losses: Losses, cohort: CohortRow) -> None:
    """Its first statement, before it looks."""
    sweep = Sweep(
        SweepRepositories.over(gated(engine.pool, Cut(""))),
        driver=DriverTwin(), accounts=engine.accounts, poke=lambda _: None, losses=losses,
    )  # fmt: skip
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await sweep.run_once()


MEETING = [met_by_a_look, met_by_a_claim, met_by_a_flush, met_by_an_entry, met_by_the_sweep]


@pytest.mark.parametrize("meets", MEETING)
async def test_after_an_outage_whoever_knows_says_it_first(
    engine: Engine, meets: Callable[[Engine, Losses, CohortRow], Awaitable[None]]
) -> None:
    """Caught: what was seen before an outage counted as seen during it, and was lost in the moment the database was back;
    its outcome was in memory a moment away. It is never the look alone that meets an outage."""
    cohort, _ = await engine.planned(2)
    [claim] = await engine.claim(cohort, limit=1)
    await engine.lose(claim.notification_id)
    losses = Losses(engine.claims, engine.accounts, clock=(clock := ManualClock()))
    await sighted(engine, losses, clock)
    await meets(engine, losses, cohort)
    assert await ids(losses, None) == []
    clock.advance(timedelta(seconds=TOLD_WITHIN_S) - MOMENT)
    assert await ids(losses, None) == []
    clock.advance(MOMENT)
    assert await ids(losses, None) == [claim.notification_id]


def test_outcomes_have_longer_to_be_told_than_a_flush_may_hang() -> None:
    """A connection that nobody answers on is given up when its statement's time is over, and the outcome is written by
    another one; who looks may have that one at once."""
    assert TOLD_WITHIN_S > COMMAND_TIMEOUT_S + RETRY_MOST_S


class AwayOutcomes(SignallingOutcomes):
    """Cannot be reached until it may."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.tried, self.back = asyncio.Event(), asyncio.Event()

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        self.tried.set()
        if not self.back.is_set():
            raise OSError("refused")
        await super().flush(outcomes, now_s=now_s)


async def test_what_this_process_knows_is_not_lost(engine: Engine) -> None:
    """Caught: the flush of one account's turn could not be written for half a minute, and the turn of another, in the same
    process, called it lost: in the high lane sent twice."""
    cohort, [one] = await engine.planned(1)
    losses = Losses(engine.claims, engine.accounts, clock=(clock := ManualClock()))
    outcomes = AwayOutcomes(engine.pool)
    passing = hand_over(engine, cohort, engine.accounts, outcomes=outcomes, losses=losses)
    await passing.account("memory-email")
    await outcomes.tried.wait()
    await set_forward(engine)
    await sighted(engine, losses, clock, of=cohort.id)
    clock.advance(timedelta(minutes=5))
    assert await ids(losses, cohort.id) == []
    outcomes.back.set()
    await passing.close()
    assert await engine.end(one) == ("sent", None, True)
    assert "unknown" not in await engine.events(one)


@pytest.mark.parametrize("who", ["the cohort", "the sweep"])
async def test_what_is_assumed_is_not_kept_through_an_outage(engine: Engine, who: str) -> None:
    """Caught: a cohort kept it for ten minutes. Written when the database was back, its resend was due long since, and
    claimed before whoever had sent it could say so."""
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    await set_forward(engine)
    clock = ManualClock()
    losses = Losses(engine.claims, engine.accounts, clock=clock)
    await sighted(engine, losses, clock, of=cohort.id if who == "the cohort" else None)
    gate = Cut("FOR UPDATE", times=1000)
    away = gated(engine.pool, gate)
    if who == "the cohort":
        passing = hand_over(engine, cohort, engine.accounts, outcomes=OutcomeRepository(away), losses=losses)
        await passing.recover()
        gate.times = 0
        await passing.close()
    else:
        repositories = replace(SweepRepositories.over(engine.pool), outcomes=OutcomeRepository(away))
        sweep = Sweep(repositories, driver=DriverTwin(), accounts=engine.accounts, poke=lambda _: None, losses=losses)
        assert (await sweep.run_once()).unknown == 0
        gate.times = 0
    assert (await engine.work(one))[0]["state"] == 1
    assert await ids(losses, None) == [], "and it is an outage: others speak first"


async def test_what_is_assumed_is_not_written_late_where_a_connection_hangs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: a flush that hangs until the database is back, and comes through then."""
    monkeypatch.setattr("activities.handing_over.losses.WRITTEN_WITHIN_S", 0.01)
    cohort, [one] = await engine.planned(1)
    await engine.claim(cohort)
    await set_forward(engine)
    losses = Losses(engine.claims, engine.accounts, clock=(clock := ManualClock()))
    await sighted(engine, losses, clock, of=cohort.id)
    gate = Gate("FOR UPDATE")
    outcomes = OutcomeRepository(gated(engine.pool, gate))
    passing = hand_over(engine, cohort, engine.accounts, outcomes=outcomes, losses=losses)
    await asyncio.wait_for(passing.recover(), 5)
    assert gate.reached.is_set()
    gate.open.set()
    await passing.close()
    assert (await engine.work(one))[0]["state"] == 1


async def test_a_lost_claim_that_makes_us_fail_spoils_no_other(engine: Engine) -> None:
    """Catches: a recovery that ends at the first. Here a wait that a later version took, which no calendar can hold."""
    fleet = two_accounts(engine)
    fleet.accounts.replace([*fleet.accounts, Account("hook", MemoryProvider(channel=Channel.WEBHOOK), Slots(2))])
    odd, one = await fleet.send(2, options=AFTER, **CHAIN)
    await fleet.drive()
    await engine.make_due()
    assert fleet.cohort is not None
    await engine.claim_over(fleet.cohort.id, "a")
    await engine.pool.execute(
        """UPDATE notification SET options = '{"fallback_after": "P999999999D"}' WHERE id = $1""", odd
    )
    await engine.pool.execute("UPDATE work SET falls_back_at = NULL WHERE notification_id = $1", odd)
    await set_forward(engine)
    losses = Losses(engine.claims, fleet.accounts, clock=(clock := ManualClock()))
    passing = hand_over(engine, fleet.cohort, fleet.accounts, losses=losses)
    await passing.recover()
    clock.advance(timedelta(hours=1))
    await passing.recover()
    await passing.close()
    assert [(row["state"], row["account"]) for row in (*await engine.work(odd), *await engine.work(one))] == [
        (1, "a"),
        (0, "b"),
    ]
