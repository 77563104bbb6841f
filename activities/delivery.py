"""The activity behind `DeliveryWorkflow`: plan, hand over, record, leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import structlog
from temporalio import activity

from activities.accounts.account import Accounts
from activities.cohorts.drive import DriveParts, EngineRepositories, drive_cohort
from activities.cohorts.planning import Planner
from activities.handing_over.contents import Contents
from activities.handing_over.losses import Losses
from activities.pace import Pace, Paced
from activities.recording.group_commit import GroupCommit
from domain.clock import Clock
from domain.lanes import DRIVE_WINDOW, FOLLOW_UP_WINDOW, Lane
from infra.clock import SYSTEM_CLOCK
from workflows.delivery import ACTIVITY, Drive, Driven

log = structlog.get_logger()

HAND_ON_S = 0.5
"""How long a stopping worker's due rows wait for the next one."""


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
        losses: Losses | None = None,
    ) -> None:
        """`losses`: those of the process, where others have them too."""
        pace = Pace(repositories.cohorts.few_at_work)
        paced = {lane: Paced(pace, lane) for lane in Lane}
        self._parts = DriveParts(
            repositories,
            accounts,
            contents,
            losses or Losses(repositories.claims, accounts, clock=clock),
            Planner(repositories.plans, accounts),
            pace,
            paced,
            {lane: GroupCommit(repositories.outcomes, pacing=paced[lane]) for lane in Lane},
            poke,
        )
        self._stopping = stopping

    @activity.defn(name=ACTIVITY)
    async def deliver(self, drive: Drive) -> Driven:
        """Safe to repeat: every statement is fenced by (cohort, epoch), every row by its claim.

        Plans what is unplanned, hands over what is due, and leaves: what waits, and for how long. Makes no new claim after
        `DRIVE_WINDOW` (of what became due again meanwhile: `FOLLOW_UP_WINDOW`) or once the worker is stopping.
        """
        begun_s, cancelled = time.monotonic(), asyncio.Event()

        def after(window: timedelta) -> bool:
            return self._stopping() or cancelled.is_set() or time.monotonic() >= begun_s + window.total_seconds()

        driving = asyncio.create_task(
            drive_cohort(
                self._parts,
                drive,
                stopping=lambda: after(DRIVE_WINDOW),
                follow_ups_stop=lambda: after(FOLLOW_UP_WINDOW),
            )
        )
        driven = await _to_its_end(driving, cancelled)
        if not driven.waits_s:
            self._parts.poke(Lane(drive.lane))
        return self._for_others(driven) if self._stopping() else driven

    def _for_others(self, driven: Driven) -> Driven:
        """The same, with nothing due before `HAND_ON_S`: a local activity would otherwise be called again at once, in this
        very process, and the worker would never end. The workflow's timer gives it to another worker."""
        return replace(driven, waits_s={account: max(wait_s, HAND_ON_S) for account, wait_s in driven.waits_s.items()})


async def _to_its_end(driving: asyncio.Task[Driven], cancelled: asyncio.Event) -> Driven:
    """The drive's result; CancelledError, once it has ended, where we were cancelled (Temporal does so at shutdown). What
    is in our hands is brought home before that: a claim cut off would become an unknown."""
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
