"""Grouping: due work becomes a cohort in one statement, and a workflow is started for it. Never inside a request."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Protocol

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.lanes import POLICIES, Lane, driven_by, priority_key
from infra.postgres.engine.cohorts import CohortRepository, CohortRow
from infra.postgres.errors import AWAY
from infra.telemetry.engine_metrics import COHORT_SIZE, COHORTS, START_FAILURES
from infra.temporal import KIND, LANE, TENANT
from workflows.delivery import EXECUTION_LIMIT, TASK_LIMIT, Cohort, DeliveryWorkflow

log = structlog.get_logger()

START_LIMIT = timedelta(seconds=10)
START_AGAIN = timedelta(seconds=2)
"""A cohort whose start failed is looked at again by the sweep this soon."""
AGAIN_AFTER_S = 1.0
TRUSTED_S = 0.05
"""What is accepted while a cohort takes on is left to it for so long without a look: a grouping for each message would find
nothing each time."""


class Driver(Protocol):
    """Temporal, as far as grouping and sweep need it."""

    async def start(self, cohort: CohortRow) -> bool:
        """Start the workflow of this cohort and epoch; False when Temporal cannot be reached. Started before = True."""
        ...

    async def is_running(self, cohort: CohortRow) -> bool | None:
        """Whether this cohort's workflow runs in this epoch; None when Temporal cannot be reached."""
        ...


class TemporalDriver:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, cohort: CohortRow) -> bool:
        queue = driven_by(cohort.lane, shared=cohort.tenant is None, size=cohort.size)
        key = priority_key(size=cohort.size, epoch=cohort.epoch, guest=queue is not cohort.lane)
        try:
            await self._client.start_workflow(
                DeliveryWorkflow.run,
                Cohort(str(cohort.id), cohort.epoch, int(cohort.lane)),
                id=cohort.workflow_id,
                task_queue=queue.label,
                execution_timeout=EXECUTION_LIMIT,
                task_timeout=TASK_LIMIT,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=_search_attributes(cohort),
                priority=Priority(priority_key=key, fairness_key=cohort.tenant),
                rpc_timeout=START_LIMIT,
            )
        except WorkflowAlreadyStartedError:
            return True
        except (RPCError, RuntimeError) as error:
            code = error.status.name if isinstance(error, RPCError) else "UNREACHABLE"
            log.warning("cohort.start_failed", cohort=str(cohort.id), epoch=cohort.epoch, code=code)
            return False
        return True

    async def is_running(self, cohort: CohortRow) -> bool | None:
        handle = self._client.get_workflow_handle(cohort.workflow_id)
        try:
            description = await handle.describe(rpc_timeout=START_LIMIT)
        except RPCError as error:
            return False if error.status is RPCStatusCode.NOT_FOUND else None
        except RuntimeError:  # a lazy client that has never reached Temporal
            return None
        return description.status is WorkflowExecutionStatus.RUNNING


def _search_attributes(cohort: CohortRow) -> TypedSearchAttributes:
    pairs = [SearchAttributePair(LANE, cohort.lane.label), SearchAttributePair(KIND, "delivery")]
    if cohort.tenant is not None:
        pairs.append(SearchAttributePair(TENANT, cohort.tenant))
    return TypedSearchAttributes(pairs)


class Starter:
    """One loop a lane: groups and starts as long as something is due, then sleeps until it is poked.

    There is no timer: what becomes due while the last group is being started forms the next one. Only where a cohort takes
    on all of a lane, what is accepted is left to it for moments (`TRUSTED_S`).
    """

    def __init__(self, cohorts: CohortRepository, driver: Driver) -> None:
        self._cohorts = cohorts
        self._driver = driver
        self._pokes = {lane: asyncio.Event() for lane in Lane}
        self._hurries = {lane: asyncio.Event() for lane in Lane}
        self._tasks: list[asyncio.Task[None]] = []

    def poke(self, lane: Lane) -> None:
        """A cohort of this lane has ended or takes on no more, or something is due that nobody has taken: look at once."""
        self._hurries[lane].set()
        self._pokes[lane].set()

    def accepted(self, lane: Lane) -> None:
        """Something was accepted in this lane that is due now: look, unless a cohort is known to take it on."""
        self._pokes[lane].set()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._loop(lane), name=f"starter-{lane.label}") for lane in Lane]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def group_all(self, lane: Lane) -> int:
        """Group and start until nothing is due or the lane is full; returns how many cohorts were made."""
        made = 0
        while (cohort := await self._cohorts.group(lane)) is not None:
            made += 1
            COHORTS.labels(lane.label).inc()
            COHORT_SIZE.labels(lane.label).observe(cohort.size)
            if not await self._driver.start(cohort):
                START_FAILURES.labels(lane.label).inc()
                await self._cohorts.renew(cohort, lease=START_AGAIN)
                return made
        return made

    async def _loop(self, lane: Lane) -> None:
        poked, hurried = self._pokes[lane], self._hurries[lane]
        while True:
            await poked.wait()
            poked.clear()
            hurried.clear()
            try:
                if await self.group_all(lane) == 0 and POLICIES[lane].shared_by_all:
                    await self._leave_to_takers(lane)
            except Exception as error:
                if isinstance(error, AWAY):
                    log.warning("starter.database_away", lane=lane.label, code=type(error).__name__)
                else:
                    log.exception("starter.failed", lane=lane.label)  # whatever it was, the lane goes on
                await asyncio.sleep(AGAIN_AFTER_S)
                poked.set()

    async def _leave_to_takers(self, lane: Lane) -> None:
        """Wait for a moment where a cohort has said that it takes on what becomes due. When it ends or stops taking on, its
        own process groups what is there by then; what comes after that waits here for no longer than this."""
        for_s = await self._cohorts.taken_on_for(lane)
        if for_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(for_s, TRUSTED_S)):
                    await self._hurries[lane].wait()
