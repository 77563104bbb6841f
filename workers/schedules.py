"""The Temporal Schedules that Tongda itself needs, kept in step with this version."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from infra.temporal import KIND, register_search_attributes
from workflows.housekeeping import QUEUE, SWEEP_EVERY, SWEEP_LIMIT, SweepWorkflow

log = structlog.get_logger()

SWEEP_SCHEDULE = "tongda-sweep"
SYNC_EVERY_S = 30.0
"""A Temporal database that was deleted is usable again this soon."""


async def sync(client: Client) -> None:
    """Register search attributes and schedules where they are missing; safe to repeat, from several processes."""
    await register_search_attributes(client)
    action = ScheduleActionStartWorkflow(
        SweepWorkflow.run,
        id="sweep",
        task_queue=QUEUE,
        execution_timeout=2 * SWEEP_LIMIT,
        typed_search_attributes=TypedSearchAttributes([SearchAttributePair(KIND, "sweep")]),
    )
    schedule = Schedule(
        action=action,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=SWEEP_EVERY)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=10)),
    )
    try:
        await client.create_schedule(SWEEP_SCHEDULE, schedule)
    except ScheduleAlreadyRunningError:
        return


async def keep_synced(client: Client) -> None:
    """Call `sync` again and again, for as long as the housekeeping worker lives."""
    while True:
        try:
            await sync(client)
        except (RPCError, RuntimeError) as error:
            log.warning("schedules.sync_failed", code=type(error).__name__)
        await asyncio.sleep(SYNC_EVERY_S)
