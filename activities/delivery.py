"""The activity behind `DeliveryWorkflow`: plan, hand over, record, leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from temporalio import activity

from activities.accounts import Accounts
from activities.contents import Contents
from activities.grouped_flushes import GroupedFlushes
from activities.hand_over import HandOver
from activities.losses import Losses
from activities.outcomes import Outcomes
from activities.planning import Planner
from domain.clock import Clock
from domain.lanes import DRIVE_WINDOW, POLICIES, Lane
from infra.clock import SYSTEM_CLOCK
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import UNPLANNED, CohortRepository
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.plans import PlanRepository
from workflows.delivery import ACTIVITY, Drive, Driven

log = structlog.get_logger()

HAND_ON_S = 0.5
"""How long a stopping worker's due rows wait for the next one."""


@dataclass(frozen=True, slots=True)
class EngineRepositories:
    cohorts: CohortRepository
    plans: PlanRepository
    claims: ClaimRepository
    outcomes: OutcomeRepository


class DeliveryActivities:
    """Wired once for each worker process."""

    def __init__(
        self,
        repositories: EngineRepositories,
        *,
        accounts: Accounts,
        contents: Contents,
        stopping: Callable[[], bool],
        poke: Callable[[Lane], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._repositories = repositories
        self._losses = Losses(repositories.claims, accounts, clock=clock)
        self._accounts = accounts
        self._contents = contents
        self._planner = Planner(repositories.plans, accounts)
        self._flushes: dict[Lane, Outcomes] = {lane: GroupedFlushes(repositories.outcomes) for lane in Lane}
        self._flushes[Lane.HIGH] = repositories.outcomes  # measured at 200 a second: grouping gains nothing there
        self._stopping = stopping
        self._poke = poke

    @activity.defn(name=ACTIVITY)
    async def deliver(self, drive: Drive) -> Driven:
        """Safe to repeat: every statement is fenced by (cohort, epoch), every row by its claim.

        Plans what is unplanned, hands over what is due over the given account or over all, and leaves: what waits, and for
        how long. Makes no new claim after `DRIVE_WINDOW` or once the worker is stopping.
        """
        lane = Lane(drive.lane)
        until_s, cancelled = time.monotonic() + DRIVE_WINDOW.total_seconds(), asyncio.Event()

        def enough() -> bool:
            return self._stopping() or cancelled.is_set() or time.monotonic() >= until_s

        driving = asyncio.create_task(self._drive(drive, cohort=UUID(drive.cohort), lane=lane, enough=enough))
        driven = await _to_its_end(driving, cancelled)
        if not driven.waits_s:
            self._poke(lane)
        return self._for_others(driven) if self._stopping() else driven

    def _for_others(self, driven: Driven) -> Driven:
        """What is due now is due in a moment: a local activity would otherwise be called again at once, in this very
        process, over and over, and the worker would never end. The timer gives the workflow to another one."""
        return replace(driven, waits_s={account: max(wait_s, HAND_ON_S) for account, wait_s in driven.waits_s.items()})

    async def _drive(self, drive: Drive, *, cohort: UUID, lane: Lane, enough: Callable[[], bool]) -> Driven:
        repositories, policy = self._repositories, POLICIES[lane]
        entered = await repositories.plans.enter(cohort, epoch=drive.epoch, limit=policy.cohort_size)
        if entered is None:
            return Driven()
        self._poke(lane)  # one less is starting
        await self._planner.plan(cohort, epoch=drive.epoch, unplanned=entered.unplanned, now=entered.now)
        hand_over = HandOver(
            repositories.claims,
            self._flushes[lane],
            self._accounts,
            self._contents,
            cohort=cohort,
            epoch=drive.epoch,
            stopping=enough,
            losses=self._losses,
        )
        try:
            await hand_over.recover()
            waits = await self._rounds(drive, cohort=cohort, lane=lane, hand_over=hand_over, enough=enough)
        finally:
            await hand_over.close()
        return Driven(hand_over.handed_over, waits)

    async def _rounds(
        self, drive: Drive, *, cohort: UUID, lane: Lane, hand_over: HandOver, enough: Callable[[], bool]
    ) -> dict[str, float]:
        """Hand over until nothing of ours is due: an outcome may open the next place of a chain at once."""
        repositories, horizon = self._repositories, POLICIES[lane].hold_horizon
        while True:
            await _all(*[hand_over.account(name) for name in await self._due_accounts(drive, cohort=cohort)])
            await hand_over.settle()
            waits = await repositories.cohorts.leave(cohort, epoch=drive.epoch, horizon=horizon)
            ours = [name for name, wait_s in waits.items() if wait_s <= 0 and drive.account in (None, UNPLANNED, name)]
            if not ours or UNPLANNED in ours or enough():
                return waits

    async def _due_accounts(self, drive: Drive, *, cohort: UUID) -> list[str]:
        if drive.account:
            return [drive.account]
        return await self._repositories.claims.accounts(cohort)


async def _to_its_end(driving: asyncio.Task[Driven], cancelled: asyncio.Event) -> Driven:
    """Its result, or our cancellation once it has ended: what is in our hands is brought home, however often we are
    cancelled (Temporal does so at shutdown). A claim cut off would become an unknown."""
    while not driving.done():
        try:
            await asyncio.wait([driving])
        except asyncio.CancelledError:
            cancelled.set()
    if cancelled.is_set():
        if (error := driving.exception()) is not None:
            log.warning("delivery.failed_while_cancelled", code=type(error).__name__)
        raise asyncio.CancelledError
    return driving.result()


async def _all(*loops: Coroutine[None, None, None]) -> None:
    """Run to the end whatever happens to one of them: none is cancelled between its claim and its send."""
    for error in await asyncio.gather(*loops, return_exceptions=True):
        if error is not None:
            raise error
