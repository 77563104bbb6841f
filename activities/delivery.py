"""The activity behind `DeliveryWorkflow`: plan, hand over, record, leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from temporalio import activity

from activities.accounts import Accounts
from activities.contents import Contents
from activities.grouped_flushes import GroupedFlushes
from activities.groups import Groups
from activities.hand_over import HandOver
from activities.losses import Losses
from activities.pace import FREE, Pace, Step
from activities.planning import Planner
from domain.clock import Clock
from domain.lanes import DRIVE_WINDOW, LOOK_AFTER, LOOKS_MORE, POLICIES, TAKES_AFTER, TAKES_FOR, Lane
from infra.clock import SYSTEM_CLOCK
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import UNPLANNED, CohortRepository
from infra.postgres.engine.entering import EnteringRepository
from infra.postgres.engine.locks import LOST_RACE
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.plans import PlanRepository
from infra.postgres.errors import AWAY
from infra.telemetry.engine_metrics import GROUP_SIZE
from workflows.delivery import ACTIVITY, Drive, Driven

log = structlog.get_logger()

MOST_BEHIND = 3
"""Groups of a cohort that may be at work while slots are scarce, before it takes on no more."""
HAND_ON_S = 0.5
"""How long a stopping worker's due rows wait for the next one."""


@dataclass(frozen=True, slots=True)
class EngineRepositories:
    cohorts: CohortRepository
    entering: EnteringRepository
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
        self._pace = Pace(repositories.cohorts.few_at_work)
        self._steps = {lane: Step(self._pace, lane) for lane in Lane}
        self._flushes = {lane: GroupedFlushes(repositories.outcomes, step=self._steps[lane]) for lane in Lane}
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
        entered = await repositories.entering.enter(
            cohort, epoch=drive.epoch, limit=policy.cohort_size, takes=drive.account is None
        )
        if entered is None:
            return Driven()
        step = self._step(drive, lane=lane, takes=entered.takes)
        if not entered.takes or lane is not Lane.HIGH:
            self._poke(lane)  # one less is starting
        await self._planner.plan(cohort, epoch=drive.epoch, unplanned=entered.unplanned, now=entered.now, step=step)
        groups = Groups(
            lambda: self._hand_over(drive, cohort=cohort, lane=lane, step=step, enough=enough),
            due_accounts=lambda: self._due_accounts(drive, cohort=cohort),
        )
        groups.start(recover=True)
        try:
            if entered.takes:
                await self._take_on(drive, cohort=cohort, lane=lane, groups=groups, enough=enough)
            waits = await self._rounds(drive, cohort=cohort, lane=lane, groups=groups, enough=enough)
        except BaseException:
            asyncio.get_running_loop().call_later(TAKES_FOR.total_seconds(), self._poke, lane)  # what was left to us
            raise
        finally:
            await groups.ended()
        return Driven(groups.handed_over, waits)

    def _step(self, drive: Drive, *, lane: Lane, takes: bool) -> Step:
        """Whoever has few messages goes first, and in the high lane what is tried again."""
        if takes:
            self._pace.note(lane)
        again = lane is Lane.HIGH and drive.account is not None
        return FREE if takes or again else self._steps[lane]

    def _hand_over(self, drive: Drive, *, cohort: UUID, lane: Lane, step: Step, enough: Callable[[], bool]) -> HandOver:
        return HandOver(
            self._repositories.claims,
            self._repositories.outcomes if step.first else self._flushes[lane],
            self._accounts,
            self._contents,
            cohort=cohort,
            epoch=drive.epoch,
            stopping=enough,
            losses=self._losses,
            step=step,
        )

    async def _take_on(self, drive: Drive, *, cohort: UUID, lane: Lane, groups: Groups, enough: Callable[[], bool]) -> None:
        """What becomes due in the lane while this cohort is at work joins it, group after group, until nothing is due: so
        one workflow serves many groups under load. A group is what came while the one before it was handed over."""
        entering, policy = self._repositories.entering, POLICIES[lane]
        looks = 0
        while not enough() and not self._is_behind(groups):
            await groups.last(at_most=TAKES_AFTER)
            try:
                taken = await entering.take_on(
                    cohort, epoch=drive.epoch, lane=lane, limit=policy.takes_on, few=policy.mixes_up_to
                )
                await self._planner.plan(cohort, epoch=drive.epoch, unplanned=taken.unplanned, now=taken.now)
            except (*AWAY, *LOST_RACE) as error:
                log.warning("delivery.planned_again", lane=lane.label, code=type(error).__name__)
                await self._plan_again(drive, cohort=cohort, lane=lane)
                groups.start()
                break
            if taken.size == 0:
                if looks == LOOKS_MORE:
                    break
                looks += 1
                await asyncio.sleep(LOOK_AFTER.total_seconds())
                continue
            looks = 0
            self._pace.note(lane)
            GROUP_SIZE.labels(lane.label).observe(taken.size)
            groups.start()
            if taken.more:
                self._poke(lane)  # others help
                if lane is not Lane.HIGH:
                    break
        if groups.at_work:
            await entering.take_no_more(cohort, epoch=drive.epoch)
            self._poke(lane)

    def _is_behind(self, groups: Groups) -> bool:
        """Groups wait for slots of this process: another one may have some for what becomes due from now on."""
        return groups.at_work > MOST_BEHIND and any(account.slots.free == 0 for account in self._accounts)

    async def _plan_again(self, drive: Drive, *, cohort: UUID, lane: Lane) -> None:
        """What was taken on and not planned would otherwise wait until all that is being handed over has ended."""
        entered = await self._repositories.entering.enter(cohort, epoch=drive.epoch, limit=POLICIES[lane].cohort_size)
        if entered is not None:
            await self._planner.plan(cohort, epoch=drive.epoch, unplanned=entered.unplanned, now=entered.now)

    async def _rounds(
        self, drive: Drive, *, cohort: UUID, lane: Lane, groups: Groups, enough: Callable[[], bool]
    ) -> dict[str, float]:
        """Until nothing of ours is due: an outcome may open the next place of a chain at once."""
        while True:
            await groups.ended()
            waits = await self._repositories.cohorts.leave(cohort, epoch=drive.epoch, horizon=POLICIES[lane].hold_horizon)
            if waits:
                self._poke(lane)  # it no longer takes on
            ours = [name for name, wait_s in waits.items() if wait_s <= 0 and drive.account in (None, UNPLANNED, name)]
            if not ours or UNPLANNED in ours or enough():
                return waits
            groups.start()

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
