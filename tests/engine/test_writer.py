"""The outcome writer: set-wise, soon, patient with the database, and a poisoned row fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from activities.outcomes import FLUSH_ROWS, OutcomeWriter
from domain.channels import Channel
from infra.postgres.engine.outcomes import OutcomeRepository, StepOutcome
from tests.engine.driving import SignallingOutcomes
from tests.engine.support import OK, PERMANENT, Engine


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.outcomes.RETRY_FIRST_S", 0.001)
    monkeypatch.setattr("activities.outcomes.RETRY_MOST_S", 0.001)


class FailingOutcomes(SignallingOutcomes):
    """Raises what it is given, one each, before it writes."""

    def __init__(self, pool: asyncpg.Pool, *failures: Exception) -> None:
        super().__init__(pool)
        self._failures = list(failures)

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        if self._failures:
            raise self._failures.pop(0)
        await super().flush(outcomes, now_s=now_s)


async def written(repository: OutcomeRepository, *outcomes: StepOutcome) -> None:
    writer = OutcomeWriter(repository, in_flight=lambda: 0)
    for outcome in outcomes:
        writer.put(outcome)
    await writer.close()


async def test_outcomes_are_written_many_at_a_time(engine: Engine) -> None:
    """Catches: one transaction for each outcome: a tenth of the rate."""
    cohort, _ = await engine.planned(FLUSH_ROWS * 2)
    repository = SignallingOutcomes(engine.pool)
    await written(repository, *[engine.answered(c) for c in await engine.claim(cohort, limit=FLUSH_ROWS * 2)])
    assert sum(repository.sizes) == FLUSH_ROWS * 2
    assert len(repository.sizes) <= 3
    assert await engine.work() == []


async def test_a_few_outcomes_do_not_wait_for_more_than_a_moment(engine: Engine) -> None:
    """Catches: a flush by rows only. Others are in flight for ten seconds; what is known is told meanwhile."""
    cohort, [one] = await engine.planned(1)
    repository = SignallingOutcomes(engine.pool)
    writer = OutcomeWriter(repository, in_flight=lambda: 5)
    writer.put(engine.answered((await engine.claim(cohort))[0]))
    await repository.flushed.wait()
    assert await engine.end(one) == ("sent", None, True)
    await writer.close()


@pytest.mark.parametrize(
    "failure",
    [
        OSError("refused"),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InterfaceError("closed"),
        asyncpg.DeadlockDetectedError("deadlock"),
        asyncpg.CannotConnectNowError("starting up"),
    ],
)
async def test_a_flush_is_tried_until_the_database_is_back(engine: Engine, failure: Exception) -> None:
    """Caught for deadlocks: the sixth in a row ended the writer, and all that was in flight became unknown."""
    cohort, [one] = await engine.planned(1)
    await written(FailingOutcomes(engine.pool, *[failure] * 5), *[engine.answered(c) for c in await engine.claim(cohort)])
    assert await engine.end(one) == ("sent", None, True)


async def test_it_gives_up_when_the_rows_count_as_unknown_anyway(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the activity would hang for as long as the database is away; Temporal has it to retry."""
    monkeypatch.setattr("activities.outcomes.GIVE_UP_AFTER_S", 0.0)
    cohort, [one] = await engine.planned(1)
    outcomes = [engine.answered(c) for c in await engine.claim(cohort)]
    writer = OutcomeWriter(FailingOutcomes(engine.pool, *[OSError("refused")] * 5000), in_flight=lambda: 0)
    writer.put(outcomes[0])
    with pytest.raises(OSError, match="refused"):
        await writer.settle()
    with pytest.raises(OSError, match="refused"):
        await writer.close()
    assert (await engine.end(one))[2] is False


async def test_a_row_that_poisons_the_flush_fails_alone(engine: Engine) -> None:
    """Catches: one statement for all and no halving. One bad row, and the outcomes of fifty others are lost."""
    cohort, ids = await engine.planned(9)
    bad = ids[4]
    await engine.pool.execute(f"ALTER TABLE delivery ADD CONSTRAINT bad CHECK (notification_id <> '{bad}')")
    try:
        await written(engine.outcomes, *[engine.answered(c, PERMANENT) for c in await engine.claim(cohort)])
    finally:
        await engine.pool.execute("ALTER TABLE delivery DROP CONSTRAINT bad")
    assert [r["notification_id"] for r in await engine.work()] == [bad]
    assert {(await engine.end(i))[0] for i in ids if i != bad} == {"failed"}
    # Nothing of it was kept; it comes back as unknown, which can be written.
    await engine.lose(bad)
    await engine.flush(*[engine.decider().lost(c) for c in await engine.lost(cohort.id, limit=1)])
    assert await engine.end(bad) == ("unknown", "answer_lost", True)


async def test_settle_waits_for_the_flush_that_is_under_way(engine: Engine) -> None:
    """Catches: leaving while a flush is on its way: the cohort would be seen with rows that have just ended."""
    cohort, ids = await engine.planned(3, user="u-1", channels=[Channel.EMAIL])
    writer = OutcomeWriter(engine.outcomes, in_flight=lambda: 0)
    for claim in await engine.claim(cohort):
        writer.put(engine.answered(claim, OK))
        await asyncio.sleep(0)
    await writer.settle()
    assert await engine.work() == []
    assert writer.written == len(ids)
    await writer.close()
