"""The outcome writer: set-wise, soon, patient with the database, and a poisoned row fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import pytest

from activities.recording.outcomes import FLUSH_ROWS, OutcomeWriter
from domain.channels import Channel
from domain.results import ResultClass, SendResult
from domain.timeline import EventType
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.step_outcome import StepOutcome
from tests.engine.driving import SignallingOutcomes
from tests.engine.support import OK, PERMANENT, RETRY, Engine

LOST = SendResult(ResultClass.UNKNOWN, code="reset")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.recording.patience.RETRY_FIRST_S", 0.001)
    monkeypatch.setattr("activities.recording.patience.RETRY_MOST_S", 0.001)


class FailingOutcomes(SignallingOutcomes):
    """Raises what it is given, one each, before it writes."""

    def __init__(self, pool: asyncpg.Pool, *failures: Exception) -> None:
        super().__init__(pool)
        self._failures = list(failures)

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        if self._failures:
            raise self._failures.pop(0)
        await super().flush(outcomes, now_s=now_s)


class HeldOutcomes(OutcomeRepository):
    """Writes when it may."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        self.begun.set()
        await self.go_on.wait()
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


async def test_what_is_known_outlives_an_outage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught: after nine seconds the writer ended. What it held, and what came afterwards, was never written, though the
    database came back: sent messages became unknown, and one-time codes were sent twice."""
    monkeypatch.setattr("activities.recording.patience.HELD_FOR_S", 0.0)
    cohort, ids = await engine.planned(2)
    first, second = [engine.answered(c) for c in await engine.claim(cohort)]
    writer = OutcomeWriter(FailingOutcomes(engine.pool, *[OSError("refused")] * 3), in_flight=lambda: 0)
    writer.put(first)
    with pytest.raises(OSError, match="refused"):
        await writer.settle()
    writer.put(second)
    with pytest.raises(OSError, match="refused"):
        await writer.settle()
    assert [(await engine.end(i))[2] for i in ids] == [False, False]
    with pytest.raises(OSError, match="refused"):
        await writer.settle()
    await writer.close()  # the database is back
    assert [await engine.end(i) for i in ids] == [("sent", None, True)] * 2
    assert writer.written == 2


async def test_what_nobody_takes_in_the_end_is_said(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the process would never end; Temporal has the activity to retry, and others call it lost in time."""
    monkeypatch.setattr("activities.recording.patience.HELD_FOR_S", 0.0)
    cohort, [one] = await engine.planned(1)
    [outcome] = [engine.answered(c) for c in await engine.claim(cohort)]
    writer = OutcomeWriter(FailingOutcomes(engine.pool, *[OSError("refused")] * 5000), in_flight=lambda: 0)
    writer.put(outcome)
    with pytest.raises(OSError, match="refused"):
        await writer.settle()
    with pytest.raises(OSError, match="refused"):
        await writer.close()
    assert (await engine.end(one))[2] is False


async def test_no_more_is_claimed_than_can_be_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a flush that does not come through while claims do: outcomes would fill the memory."""
    monkeypatch.setattr("activities.recording.outcomes.MOST_HELD", 2)
    cohort, _ = await engine.planned(2)
    outcomes = [engine.answered(c) for c in await engine.claim(cohort)]
    writer = OutcomeWriter(FailingOutcomes(engine.pool, *[OSError("refused")] * 3), in_flight=lambda: 9)
    await writer.room()
    for outcome in outcomes:
        writer.put(outcome)
    await writer.room()
    assert await engine.work() == [], "there is room again when they are written"
    await writer.close()


async def test_what_is_being_written_takes_its_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught: what was under flush was not counted, so that twice as much was held."""
    monkeypatch.setattr("activities.recording.outcomes.MOST_HELD", 2)
    cohort, _ = await engine.planned(2)
    repository = HeldOutcomes(engine.pool)
    writer = OutcomeWriter(repository, in_flight=lambda: 0)
    for claim in await engine.claim(cohort):
        writer.put(engine.answered(claim))
    await repository.begun.wait()
    room = asyncio.create_task(writer.room())
    await asyncio.sleep(0)
    assert not room.done()
    repository.go_on.set()
    await room
    await writer.close()


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


@pytest.mark.parametrize(
    "answer",
    [
        SendResult(ResultClass.OK, provider_id="id-\0"),
        SendResult(ResultClass.OK, code="250 \0", provider_id="id"),
        SendResult(ResultClass.OK, provider_id="\ud800"),
    ],
)
async def test_what_a_provider_calls_it_spoils_no_truth(engine: Engine, answer: SendResult) -> None:
    """Caught: an id with a NUL cannot be stored. A message that was sent became unknown, or was sent a second time."""
    cohort, ids = await engine.planned(3)
    claims = await engine.claim(cohort)
    bad = claims[1].notification_id
    await written(engine.outcomes, *[engine.answered(c, answer if c.notification_id == bad else OK) for c in claims])
    assert [await engine.end(i) for i in ids] == [("sent", None, True)] * 3
    assert (await engine.detail(bad, "attempt"))["code"] == "not_recordable"


class PickyOutcomes(SignallingOutcomes):
    """Takes of a poisoned outcome nothing but how it ended."""

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        if any(event.type is EventType.ATTEMPT for outcome in outcomes for event in outcome.events):
            raise asyncpg.CheckViolationError("poison")
        await super().flush(outcomes, now_s=now_s)


@pytest.mark.parametrize(
    ("answer", "end"), [(OK, ("sent", None, True)), (PERMANENT, ("failed", "quarantined", True)),
                        (RETRY, ("failed", "quarantined", True)), (LOST, ("unknown", "answer_lost", True))],
)  # fmt: skip
async def test_the_third_time_it_is_quarantined(engine: Engine, answer: SendResult, end: tuple[str, str, bool]) -> None:
    """Otherwise it would be called lost and fail again for ever; what was sent stays sent all the same."""
    cohort, [one] = await engine.planned(1)
    await written(PickyOutcomes(engine.pool), *[engine.answered(c, answer) for c in await engine.claim(cohort)])
    assert await engine.end(one) == end
    assert (await engine.detail(one, "quarantined"))["code"] == "not_recordable"


async def test_what_may_have_been_taken_has_not_failed(engine: Engine) -> None:
    """Caught: where a resend was to follow, a lost answer was recorded as a failure."""
    cohort, [one] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    lost = engine.answered(replace(claim, resend_unknown=True), LOST)
    assert lost.decision.due_at is not None
    await written(PickyOutcomes(engine.pool), lost)
    assert await engine.end(one) == ("unknown", "answer_lost", True)


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
