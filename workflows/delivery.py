"""`DeliveryWorkflow`: drives one cohort from its plan to the last outcome within the lane's hold horizon.

Only the cohort's id, its epoch, names of accounts and waits pass through it; never text, addresses or lists of people. All
state is in PostgreSQL: a workflow that is lost at any point is replaced by one of the next epoch (`activities.sweep`), and
the fence (cohort, epoch) in every statement keeps the two apart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.common import RetryPolicy

from domain.cohorts import UNPLANNED, CohortEpoch

ACTIVITY = "deliver"

DRIVE_LIMIT = timedelta(seconds=75)
"""Above the window of follow-ups, the last call's time-out and the last flush together."""
TASK_LIMIT = timedelta(seconds=8)
"""The time-out of a workflow task, set where the workflow is started: a killed worker is noticed after this long. While a
call takes longer, the SDK reports that it goes on."""
DATABASE_AWAY = RetryPolicy(initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0,
                            maximum_interval=timedelta(seconds=10))  # fmt: skip
"""Failures of ours are Temporal's to retry; the workflow's execution time-out ends it."""
EXECUTION_LIMIT = timedelta(minutes=15)
"""Set where the workflow is started: what takes longer is driven again from PostgreSQL."""


@dataclass(frozen=True)
class Cohort:
    """Input of `DeliveryWorkflow`."""

    id: str
    epoch: int
    lane: int


@dataclass(frozen=True)
class Drive:
    """Input of the activity `deliver`."""

    cohort: str
    epoch: int
    lane: int
    account: str | None = None
    """The account over which this call hands over; in any case rows without a plan are planned first. None: the first call,
    over all accounts. UNPLANNED: a later call, because rows were left without a plan; over all too."""

    @property
    def cohort_epoch(self) -> CohortEpoch:
        return CohortEpoch(UUID(self.cohort), self.epoch)

    @property
    def is_first(self) -> bool:
        return self.account is None

    @property
    def serves_all(self) -> bool:
        return self.account in (None, UNPLANNED)

    def serves(self, account: str) -> bool:
        return self.serves_all or self.account == account


@dataclass(frozen=True)
class Driven:
    """What `deliver` found when it left."""

    handed_over: int = 0
    waits_s: dict[str, float] = field(default_factory=dict)
    """Account (UNPLANNED: none yet) -> seconds until its next row is due (0 = now). Empty: nothing is left for this epoch,
    because the cohort has ended or another epoch drives it."""


@dataclass(frozen=True)
class Progress:
    """Answer of the query `progress`."""

    handed_over: int = 0
    rounds: int = 0
    waits_s: dict[str, float] = field(default_factory=dict)


@workflow.defn(name="DeliveryWorkflow")
class DeliveryWorkflow:
    """One cohort, one epoch. Accounts go their own way after the first round, so that a slow one holds up no other."""

    @workflow.init
    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort
        self._progress = Progress()
        self._due: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[Driven]] = {}
        self._over = False

    @workflow.run
    async def run(self, _: Cohort) -> Progress:
        """Ends when nothing of the cohort is left here: everything has ended or went back to `work`."""
        self._note(await self._deliver(None))
        while self._due or self._running:
            self._start_due_accounts()
            await self._until_next()
            for account in [a for a, task in self._running.items() if task.done()]:
                self._note(self._running.pop(account).result())
        return self._progress

    @workflow.query
    def progress(self) -> Progress:
        return self._progress

    def _start_due_accounts(self) -> None:
        now = workflow.time()
        for account in [a for a, due in self._due.items() if due <= now and a not in self._running]:
            del self._due[account]
            self._running[account] = asyncio.create_task(self._deliver(account))

    async def _until_next(self) -> None:
        """Until a call has ended or an idle account is due."""
        idle = [due for account, due in self._due.items() if account not in self._running]
        wait_s = max(0.0, min(idle) - workflow.time()) if idle else None
        if self._running:
            await workflow.wait(list(self._running.values()), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        elif wait_s:
            await asyncio.sleep(wait_s)

    async def _deliver(self, account: str | None) -> Driven:
        """Runs in this worker: through Temporal's queue, a cohort would cost twice as much in Temporal."""
        drive = Drive(self._cohort.id, self._cohort.epoch, self._cohort.lane, account)
        driven: Driven = await workflow.execute_local_activity(
            ACTIVITY, drive, result_type=Driven, start_to_close_timeout=DRIVE_LIMIT, retry_policy=DATABASE_AWAY
        )
        return driven

    def _note(self, driven: Driven) -> None:
        """Keep the earliest time that any call has seen for an account: two calls may end in one moment, and the one
        noted last may have looked first. A call too many finds nothing; a call too few would leave a row waiting."""
        progress = self._progress
        self._progress = Progress(progress.handed_over + driven.handed_over, progress.rounds + 1, driven.waits_s)
        if not driven.waits_s:
            self._over = True  # the cohort has ended or is another epoch's: what calls saw before that counts no more
            self._due.clear()
        if self._over:
            return
        for account, wait_s in driven.waits_s.items():
            due = workflow.time() + wait_s
            self._due[account] = min(due, self._due.get(account, due))
