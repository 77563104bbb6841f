"""Housekeeping workflows, started by Temporal Schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

SWEEP = "sweep"
QUEUE = "housekeeping"
SWEEP_EVERY = timedelta(seconds=10)
SWEEP_LIMIT = timedelta(seconds=60)
SWEEP_RETRY = RetryPolicy(maximum_attempts=3)
"""Few: the schedule starts the next sweep anyway."""


@dataclass(frozen=True)
class Swept:
    """What one sweep found."""

    redriven: int = 0
    """Cohorts driven again in a new epoch."""
    orphans: int = 0
    """Rows whose cohort was gone."""
    unknown: int = 0
    """Hand-overs whose outcome nobody recorded in time."""


@workflow.defn(name="SweepWorkflow")
class SweepWorkflow:
    """Looks for what was left behind (docs/architecture.md, the way of one notification: 7)."""

    @workflow.run
    async def run(self) -> Swept:
        swept: Swept = await workflow.execute_activity(
            SWEEP, result_type=Swept, start_to_close_timeout=SWEEP_LIMIT, retry_policy=SWEEP_RETRY
        )
        return swept
