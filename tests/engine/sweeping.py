"""A sweep over a test's database, with a driver twin that knows what runs."""

from __future__ import annotations

from uuid import UUID

from activities.handing_over.losses import Losses
from activities.sweep import Sweep, SweepRepositories
from domain.clock import Clock
from domain.lanes import Lane
from infra.clock import SYSTEM_CLOCK
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.support import Engine


class DriverTwin:
    """Temporal, as far as the sweep needs it: what it is told to know."""

    def __init__(self) -> None:
        self.running: dict[tuple[UUID, int], bool | None] = {}
        self.started: list[tuple[UUID, int]] = []
        self.asked: list[UUID] = []
        self.reachable = True

    async def start(self, cohort: CohortRow) -> bool:
        if self.reachable:
            self.started.append((cohort.id, cohort.epoch))
        return self.reachable

    async def is_running(self, cohort: CohortRow) -> bool | None:
        self.asked.append(cohort.id)
        return self.running.get((cohort.id, cohort.epoch), False) if self.reachable else None


def sweep_of(engine: Engine, driver: DriverTwin, *, poked: list[Lane] | None = None, clock: Clock = SYSTEM_CLOCK) -> Sweep:
    """`clock`: by which it waits until what it has seen is lost."""
    pool = engine.pool
    return Sweep(
        SweepRepositories.over(pool),
        driver=driver,
        accounts=engine.accounts,
        poke=(poked if poked is not None else []).append,
        losses=Losses(engine.claims, engine.accounts, clock=clock),
    )
