"""Temporal workers, one a role, all of a process over one client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from workers.errors import CodesOnly
from workers.roles import WIDTHS, Role
from workers.wiring import Wired
from workflows.delivery import DeliveryWorkflow
from workflows.housekeeping import QUEUE, SweepWorkflow

DRAIN_LIMIT = timedelta(seconds=40)
"""Longer than any call of a provider takes: at shutdown calls in flight end and are recorded, so that a deploy makes no
unknowns."""


def make_worker(client: Client, role: Role, *, wired: Wired) -> Worker:
    """The worker of one role.

    Workflows run outside the SDK's sandbox, which costs 300 ms for each one that imports anything heavy; a test holds
    their imports to the standard library, temporalio and domain, and another runs each of them inside it.
    """
    width = WIDTHS[role]
    workflows: Sequence[type] = [SweepWorkflow] if role is Role.HOUSEKEEPING else [DeliveryWorkflow]
    activities: Sequence[Callable[..., Any]] = (
        [wired.sweep.sweep] if role is Role.HOUSEKEEPING else [wired.delivery.deliver]
    )
    return Worker(
        client,
        task_queue=QUEUE if role is Role.HOUSEKEEPING else role.value,
        workflows=workflows,
        activities=activities,
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=[CodesOnly()],
        max_concurrent_workflow_tasks=width.workflow_tasks,
        max_concurrent_activities=width.activities,
        max_concurrent_local_activities=width.activities,
        graceful_shutdown_timeout=DRAIN_LIMIT,
    )
