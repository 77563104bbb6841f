"""One call of the activity `deliver`: a cohort from its plan to its leave."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from activities.accounts.account import Accounts
from activities.cohorts.groups import Groups
from activities.cohorts.planning import Planner
from activities.handing_over.contents import Contents
from activities.handing_over.hand_over import HandOver
from activities.handing_over.losses import Losses
from activities.pace import UNPACED, Pace, Pacing
from activities.recording.follow_ups import ToldOutcomes
from activities.recording.group_commit import GroupCommit
from activities.recording.outcomes import Outcomes
from domain.cohorts import UNPLANNED
from domain.lanes import ADMISSION_LEASE, ADMIT_EVERY, BEHIND_AFTER, LOOK_EVERY, POLICIES, WAITS_AFTER, Lane
from domain.permits import PermitRank
from infra.postgres.engine.admission import AdmissionRepository, Admitted, Entered
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import CohortRepository
from infra.postgres.engine.locks import LOST_RACE
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.plans import PlanRepository
from infra.postgres.errors import AWAY
from infra.telemetry.engine_metrics import GROUP_SIZE
from workflows.delivery import Drive, Driven

log = structlog.get_logger()

MOST_BEHIND = 3
"""Groups of a cohort that may be at work while slots are scarce, before it takes on no more."""
SCARCE_S = 0.1
"""Slots for which somebody has waited so long are scarce: receivers are slow, not many."""
FOLLOW_UP_EVERY_S = 0.02
FOLLOW_UP_MANY_EVERY_S = 0.2
"""In a cohort of many, where what fails by and by is followed up together."""
LOOK_ALL_EVERY_S = 0.1
"""A group is of what was taken on with it. After this long it is of all that the cohort has due: whoever else changed a row
of it (a receipt, somebody who hurries it, an account that takes again) told nobody here."""


@dataclass(frozen=True, slots=True)
class EngineRepositories:
    cohorts: CohortRepository
    admission: AdmissionRepository
    plans: PlanRepository
    claims: ClaimRepository
    outcomes: OutcomeRepository


@dataclass(frozen=True, slots=True)
class DriveParts:
    """What the drives of a process share."""

    repositories: EngineRepositories
    accounts: Accounts
    contents: Contents
    losses: Losses
    planner: Planner
    pace: Pace
    paced: Mapping[Lane, Pacing]
    """How bulk of a lane goes."""
    flushes: Mapping[Lane, GroupCommit]
    """Where bulk of a lane records its outcomes."""
    poke: Callable[[Lane], None]


async def drive_cohort(
    parts: DriveParts, drive: Drive, *, stopping: Callable[[], bool], follow_ups_stop: Callable[[], bool]
) -> Driven:
    """Plan, hand over, take on, leave. Makes no new claim once it is `stopping`, and of what became due again meanwhile,
    once `follow_ups_stop`. What is in our hands is recorded when this ends, also where it raises."""
    lane = Lane(drive.lane)
    with parts.losses.outages.noticed():
        entered = await parts.repositories.admission.enter(
            drive.cohort_epoch, limit=POLICIES[lane].cohort_size, admits=drive.is_first
        )
        if entered is None:
            return Driven()
        return await CohortDrive(parts, drive, entered, stopping=stopping, follow_ups_stop=follow_ups_stop).run()


class CohortDrive:
    """Made for each call, once the cohort has been entered."""

    def __init__(
        self,
        parts: DriveParts,
        drive: Drive,
        entered: Entered,
        *,
        stopping: Callable[[], bool],
        follow_ups_stop: Callable[[], bool],
    ) -> None:
        self._parts = parts
        self._repositories = parts.repositories
        self._drive = drive
        self._cohort = drive.cohort_epoch
        self._lane = Lane(drive.lane)
        self._policy = POLICIES[self._lane]
        self._entered = entered
        self._stopping = stopping
        first = entered.admits or (self._policy.tried_again_first and not drive.is_first)
        self._pacing = UNPACED if first else parts.paced[self._lane]
        """Whoever has few messages goes first, and what is tried again, where that is urgent."""
        self._groups = Groups(
            self._hand_over,
            due=self,
            stopping=stopping,
            follow_ups_stop=follow_ups_stop,
            follow_up_every_s=FOLLOW_UP_EVERY_S if first else FOLLOW_UP_MANY_EVERY_S,
        )
        self._looked_s = float("-inf")
        """When it was looked up over which accounts something is due."""

    async def run(self) -> Driven:
        if self._entered.admits:
            self._parts.pace.note(self._lane)
        if not self._entered.admits or not self._policy.shared_by_all:
            self._poke()  # one less is starting
        try:
            await self._plan(self._entered)
            self._groups.start(recover=True)
            if self._entered.admits:
                await self._admit()
            waits_s = await self._rounds()
        except BaseException:
            self._poke_after(ADMISSION_LEASE)  # nobody else groups before what was left to us
            raise
        finally:
            await self._groups.wait_all()
        return Driven(self._groups.handed_over, waits_s)

    async def _plan(self, found: Entered | Admitted) -> Collection[str]:
        """Returns over which accounts it has something due now."""
        written = await self._parts.planner.plan(
            self._cohort, unplanned=found.unplanned, now=found.now, pacing=self._pacing
        )
        return written.accounts

    def _hand_over(self, stopping: Callable[[], bool]) -> HandOver:
        parts = self._parts
        outcomes: Outcomes = self._repositories.outcomes if self._pacing.goes_first else parts.flushes[self._lane]
        return HandOver(
            self._repositories.claims,
            ToldOutcomes(outcomes, due_again=self._groups.due_again),
            parts.accounts,
            parts.contents,
            cohort=self._cohort,
            stopping=stopping,
            losses=parts.losses,
            lost_to=ToldOutcomes(self._repositories.outcomes, due_again=self._groups.due_again),
            pacing=self._pacing,
            progress=self._groups,
            rank=self._rank,
        )

    @property
    def _rank(self) -> PermitRank:
        """Of its messages among all that ask for permits of an account."""
        if self._lane is Lane.HIGH:
            return PermitRank.HIGH
        return PermitRank.FEW if self._entered.shared else PermitRank.BULK

    async def _admit(self) -> None:
        """What becomes due in the lane while this cohort is at work joins it, group after group, until nothing is due: so
        one workflow serves many groups under load. A group is what came while the one before it was handed over, or until
        somebody claimed it with theirs."""
        lingers_s = self._policy.lingers.total_seconds()
        since_s = time.monotonic()
        until_s, next_s = since_s + lingers_s, since_s
        while not self._stopping() and not self._is_behind(since_s):
            await self._groups.wait_last(at_most=ADMIT_EVERY)
            await asyncio.sleep(next_s - time.monotonic())
            try:
                taken = await self._repositories.admission.admit_due(
                    self._cohort,
                    lane=self._lane,
                    limit=self._policy.admits_at_once,
                    few=self._policy.mixes_up_to,
                )
                next_s = time.monotonic() + (0.0 if taken.more else LOOK_EVERY.total_seconds())
                over = {*taken.accounts, *await self._plan(taken)}
            except (*AWAY, *LOST_RACE) as error:
                if isinstance(error, AWAY):
                    self._parts.losses.outages.met()
                log.warning("delivery.planned_again", lane=self._lane.label, code=type(error).__name__)
                await self._plan_again()
                self._groups.start()
                break
            if taken.size == 0:
                if taken.is_second or time.monotonic() >= until_s:
                    break
                continue
            until_s = time.monotonic() + lingers_s
            self._parts.pace.note(self._lane)
            GROUP_SIZE.labels(self._lane.label).observe(taken.size)
            self._groups.start(over=over if time.monotonic() < self._looked_s + LOOK_ALL_EVERY_S else None)
            if taken.more:
                self._poke()  # others help
                if not self._policy.admits_beside_others:
                    break
            elif taken.is_second:
                break  # two that look by turns find half as much each
        if self._groups.at_work:
            await self._repositories.admission.stop_admitting(self._cohort)
            self._poke()

    def _is_behind(self, since_s: float) -> bool:
        """Groups wait for slots of this process: another one may have some for what becomes due from now on. Not at once:
        under a lasting lack of slots each cohort would be followed by another in moments."""
        if time.monotonic() - since_s < BEHIND_AFTER.total_seconds():
            return False
        return self._groups.at_work > MOST_BEHIND and time.monotonic() - self._groups.waits_since_s > SCARCE_S

    async def _plan_again(self) -> None:
        """What was taken on and not planned would otherwise wait until all that is being handed over has ended."""
        entered = await self._repositories.admission.enter(self._cohort, limit=self._policy.cohort_size)
        if entered is not None:
            await self._plan(entered)

    async def _rounds(self) -> dict[str, float]:
        """Until nothing of ours is due, whatever became of it meanwhile."""
        while True:
            await self._calls_ended()
            waits_s = await self._repositories.cohorts.leave(self._cohort, horizon=self._policy.hold_horizon)
            if waits_s:
                self._poke()  # it no longer takes on
            due = [name for name, wait_s in waits_s.items() if wait_s <= 0 and self._drive.serves(name)]
            if not due or UNPLANNED in due or self._stopping():
                return waits_s
            self._groups.start()

    async def _calls_ended(self) -> None:
        """Until all groups have; a cohort that only waits for slow receivers leaves its place in the lane to others."""
        while not await self._groups.wait_within(WAITS_AFTER):
            if not self._groups.claiming:
                with contextlib.suppress(*AWAY), self._parts.losses.outages.noticed():
                    await self._repositories.cohorts.wait_for_answers(self._cohort)
                    self._poke()
                break
        await self._groups.wait_all()

    def _poke_after(self, wait: timedelta) -> None:
        asyncio.get_running_loop().call_later(wait.total_seconds(), self._poke)

    def _poke(self) -> None:
        self._parts.poke(self._lane)

    async def accounts(self) -> Sequence[str]:
        """Those of this call over which something is due now."""
        if self._drive.serves_all:
            self._looked_s = time.monotonic()
            return await self._repositories.claims.queue.accounts(self._cohort.id)
        return [self._drive.account] if self._drive.account else []

    async def next_s(self, account: str) -> float | None:
        return await self._repositories.cohorts.next_due_s(self._cohort.id, account=account)
