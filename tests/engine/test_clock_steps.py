"""Somebody sets the database's clock. What these tests set is the rows: as they are when the clock was an hour ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import asyncpg

from activities.clock_watch import AROUND, ClockWatch
from domain.lanes import LEASE
from infra.clock import ManualClock
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT, ClockRepository
from tests.engine.support import Engine, soon

HOUR = timedelta(hours=1)


class StepsTwin:
    """What a database's clock says, in the order of asking."""

    def __init__(self, *told: datetime) -> None:
        self.told = list(told)
        self.latest = told[0]
        self.set_back_since: list[datetime] = []
        self.late: list[tuple[datetime, datetime]] = []
        self.by = set[timedelta]()
        self.last: list[datetime] = []

    async def seen(self) -> tuple[datetime, datetime]:
        now = self.told.pop(0)
        return now, max(now, self.latest)

    async def set_back(self, since: datetime, *, by: timedelta, after: datetime | None = None) -> int:
        self.by.add(by)
        if after is None:
            self.set_back_since.append(since)
        else:
            self.late.append((after, since))
        return 0

    async def begun_ahead(self, since: datetime, *, by: timedelta) -> None:
        self.by.add(by)
        self.last.append(since)


def watch(twin: StepsTwin, clock: ManualClock) -> ClockWatch:
    return ClockWatch(cast("ClockRepository", twin), clock=clock)


async def made_an_hour_ahead(engine: Engine, *, minutes: int = 60) -> None:
    await engine.pool.execute("UPDATE work SET due_at = due_at + $1::interval", timedelta(minutes=minutes))


async def due_in_s(engine: Engine, notification_id: UUID) -> float:
    left: float = await engine.pool.fetchval(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM work WHERE notification_id = $1", notification_id
    )
    return left


async def test_what_was_due_before_the_clock_was_set_back_is_due(engine: Engine) -> None:
    """Catches: rows that lie for as long as the clock was set back. Those in a cohort too: its workflow has been told to
    wait that long."""
    cohort, planned = await engine.planned(2)
    accepted = await engine.accepted(1)
    await made_an_hour_ahead(engine)
    assert await engine.claim(cohort) == []
    assert await ClockRepository(engine.pool).set_back(soon(3601), by=HOUR) == 3
    again = await engine.grouped()
    assert {claim.notification_id for claim in await engine.claim(again)} == set(planned)
    assert await engine.plan(again) == len(accepted)


async def test_what_was_not_due_then_either_keeps_its_time(engine: Engine) -> None:
    """A send for a time that is still to come, and a retry that lay ahead of that clock too."""
    (timed,) = await engine.accepted(1, send_at=soon(1800))
    (retry,) = await engine.accepted(1)
    await engine.pool.execute("UPDATE work SET due_at = now() + interval '90 minutes' WHERE notification_id = $1", retry)
    assert await ClockRepository(engine.pool).set_back(soon(3601), by=HOUR) == 0
    assert await due_in_s(engine, timed) > 1700
    assert await due_in_s(engine, retry) > 5000


async def test_no_lease_and_no_answer_is_waited_for_an_hour_longer(engine: Engine) -> None:
    cohort, (notification,) = await engine.planned(1)
    await engine.claim(cohort)
    await engine.pool.execute("UPDATE work SET unknown_at = unknown_at + $1::interval", HOUR)
    await engine.pool.execute("UPDATE cohort SET lease = lease + $1::interval", HOUR)
    await ClockRepository(engine.pool).set_back(soon(3601), by=HOUR)
    row = await engine.pool.fetchrow(
        "SELECT lease - now() AS lease, unknown_at - now() AS unknown, state FROM cohort, work WHERE notification_id = $1",
        notification,
    )
    assert row is not None
    assert row["state"] == 1
    assert row["lease"] <= LEASE
    assert row["unknown"] <= HAND_OVER_LIMIT


async def test_a_process_that_starts_afterwards_learns_of_it_from_the_probes(pool: asyncpg.Pool) -> None:
    await pool.execute("INSERT INTO probe (process, at) VALUES (gen_random_uuid(), now() + interval '1 hour')")
    try:
        now, latest = await ClockRepository(pool).seen()
        assert timedelta(minutes=59) < latest - now <= HOUR
    finally:
        await pool.execute("DELETE FROM probe")


async def test_only_a_step_back_is_one() -> None:
    """Time that passes between two looks is none, nor is a look that takes long."""
    clock, began = ManualClock(), datetime.now(UTC)
    seconds = [0, 1, 60, 60 - 3600, 61 - 3600]
    twin = StepsTwin(*(began + timedelta(seconds=s) for s in seconds))
    watched = watch(twin, clock)
    for wait_s in (0, 1, 59, 1, 1):
        clock.advance(timedelta(seconds=wait_s))
        await watched.look()
    assert twin.set_back_since == [began + timedelta(seconds=61)]


async def test_what_was_on_its_way_when_the_clock_was_set_back_is_looked_for_twice() -> None:
    """Catches: what a transaction accepted that had begun before the step and ended after the look. Chains are looked at a
    last time when all that was in somebody's hands has its outcome."""
    clock, began, looks = ManualClock(), datetime.now(UTC), 120
    twin = StepsTwin(*(began + timedelta(seconds=s) for s in (0, *(t - 3600 for t in range(1, looks)))))
    watched, looked = watch(twin, clock), []
    for _ in range(looks):
        await watched.look()
        looked.append(len(twin.late))
        clock.advance(timedelta(seconds=1))
    step = began + timedelta(seconds=1)
    assert twin.set_back_since == [step]
    assert twin.late == [(step - AROUND, step + AROUND)] * 2
    assert (looked.index(1), looked.index(2)) == (6, 31)
    assert twin.last == [step + AROUND]
    assert twin.by == {HOUR}


async def test_only_what_lay_around_the_step_is_due_then(engine: Engine) -> None:
    """A retry that was made after it keeps its time."""
    late, retry = await engine.accepted(2)
    for notification, minutes in ((late, 60), (retry, 10)):
        await engine.pool.execute(
            "UPDATE work SET due_at = now() + $2::interval WHERE notification_id = $1",
            notification, timedelta(minutes=minutes),
        )  # fmt: skip
    assert await ClockRepository(engine.pool).set_back(soon(3600) + AROUND, by=HOUR, after=soon(3600) - AROUND) == 1
    assert await due_in_s(engine, late) <= 0
    assert await due_in_s(engine, retry) > 500


async def test_by_a_clock_that_is_days_wrong_nothing_is_old() -> None:
    """Catches: a year's weeks dropped by a database that believes to be in the next one."""
    clock = ManualClock()
    watched = watch(StepsTwin(clock.now() + timedelta(days=400), clock.now()), clock)
    credible = []
    for _ in range(2):
        await watched.look()
        credible.append(watched.credible)
    assert credible == [False, True]
