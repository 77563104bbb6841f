"""Group commit of outcomes: fewer transactions, and each caller still learns what became of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from activities.recording import group_commit
from activities.recording.group_commit import GroupCommit
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.errors import POISON
from tests.engine.driving import SignallingOutcomes
from tests.engine.support import OK, Engine


class HeldOutcomes(SignallingOutcomes):
    """The first flush waits until it may go on."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.pool)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        if not self.begun.is_set():
            self.begun.set()
            await self.go_on.wait()
        await super().flush(outcomes, now_s=now_s)


async def answered(engine: Engine, count: int) -> list[StepOutcome]:
    cohort, _ = await engine.planned(count)
    return [engine.answered(claim) for claim in await engine.claim(cohort)]


def flush(flushes: GroupCommit, *outcomes: StepOutcome) -> asyncio.Task[None]:
    return asyncio.create_task(flushes.flush(outcomes, now_s=0.0))


async def held(repository: HeldOutcomes, first: StepOutcome, *rest: StepOutcome) -> list[asyncio.Task[None]]:
    """The first is being written, the rest have come meanwhile, each from a caller of its own; now all go on."""
    flushes = GroupCommit(repository)
    tasks = [flush(flushes, first)]
    await repository.begun.wait()
    tasks += [flush(flushes, outcome) for outcome in rest]
    await asyncio.sleep(0)
    repository.go_on.set()
    return tasks


async def test_what_comes_meanwhile_is_one_transaction(engine: Engine) -> None:
    """Catches: a transaction for each cohort: nine round trips and a wait for the disk each."""
    outcomes, repository = await answered(engine, 6), HeldOutcomes(engine)
    await asyncio.gather(*await held(repository, *outcomes))
    assert repository.sizes == [1, 5]
    assert await engine.work() == []


async def test_whoever_comes_when_a_flush_has_just_ended_is_served(engine: Engine) -> None:
    """Caught: it was taken for still under way, nobody wrote what came then, and the activity ran into its time-out."""
    flushes = GroupCommit(engine.outcomes)
    for outcome in await answered(engine, 4):
        async with asyncio.timeout(20):
            await flushes.flush([outcome], now_s=0.0)
    assert await engine.work() == []


async def test_one_that_hangs_does_not_hold_up_the_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: one flush at a time whatever happens. Somebody's lock would stop every cohort of the lane."""
    monkeypatch.setattr(group_commit, "WAIT_S", 0.01)
    outcomes, repository = await answered(engine, 2), HeldOutcomes(engine)
    flushes = GroupCommit(repository)
    first = flush(flushes, outcomes[0])
    await repository.begun.wait()
    await flush(flushes, outcomes[1])
    assert not first.done()
    repository.go_on.set()
    await first


async def test_a_row_that_poisons_the_statement_fails_its_own_caller_alone(engine: Engine) -> None:
    """Its writer halves what it has; the other cohorts' outcomes are written."""
    outcomes, repository = await answered(engine, 3), HeldOutcomes(engine)
    bad = outcomes[1].claim.notification_id
    await engine.pool.execute(f"ALTER TABLE delivery ADD CONSTRAINT bad CHECK (notification_id <> '{bad}')")
    try:
        first, poisoned, other = await held(repository, *outcomes)
        await first
        with pytest.raises(POISON):
            await poisoned
        await other
    finally:
        await engine.pool.execute("ALTER TABLE delivery DROP CONSTRAINT bad")
    assert [row["notification_id"] for row in await engine.work()] == [bad]


async def test_two_outcomes_of_one_step_are_not_in_one_transaction(engine: Engine) -> None:
    """Catches: an assumption (`lost`) and what really happened, judged by the same row: the assumption would stand."""
    cohort, [one] = await engine.planned(1)
    claim = (await engine.claim(cohort))[0]
    await engine.lose(one)
    lost = engine.decider().lost((await engine.lost(cohort.id, limit=1))[0])
    blocker, repository = await answered(engine, 1), HeldOutcomes(engine)
    await asyncio.gather(*await held(repository, *blocker, engine.answered(claim, OK), lost))
    assert repository.sizes == [1, 1, 1]
    assert await engine.end(one) == ("sent", None, True)


async def test_a_failure_is_told_to_everybody_whose_rows_it_undid(engine: Engine) -> None:
    """Their writers try again, each for itself."""

    class Away(HeldOutcomes):
        async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
            if len(outcomes) == 2:
                raise OSError("refused")
            await super().flush(outcomes, now_s=now_s)

    outcomes, repository = await answered(engine, 3), Away(engine)
    told = await asyncio.gather(*await held(repository, *outcomes), return_exceptions=True)
    assert [type(error) for error in told] == [type(None), OSError, OSError]
    await GroupCommit(repository).flush([outcomes[1]], now_s=0.0)
    assert len(await engine.work()) == 1
