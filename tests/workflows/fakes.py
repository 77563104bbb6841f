"""Activities that answer as a test says, and remember when they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner

from domain.lanes import Lane
from workflows.delivery import ACTIVITY, Cohort, DeliveryWorkflow, Drive, Driven, Progress
from workflows.housekeeping import SWEEP, SweepWorkflow, Swept

Answer = Driven | Exception | Callable[[], Awaitable[Driven]]


@dataclass
class FakeDelivery:
    """`deliver`, scripted by account (None = the first call). Without a script: nothing is left."""

    script: dict[str | None, list[Answer]] = field(default_factory=dict)
    calls: list[Drive] = field(default_factory=list)

    @activity.defn(name=ACTIVITY)
    async def deliver(self, drive: Drive) -> Driven:
        self.calls.append(drive)
        waiting = self.script.get(drive.account)
        answer = waiting.pop(0) if waiting else Driven()
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Driven) else await answer()

    @property
    def accounts(self) -> list[str | None]:
        return [drive.account for drive in self.calls]


@dataclass
class FakeSweep:
    swept: Swept = field(default_factory=Swept)

    @activity.defn(name=SWEEP)
    async def sweep(self) -> Swept:
        return self.swept


def worker(
    client: Client,
    queue: str,
    *,
    delivery: FakeDelivery | None = None,
    sweep: FakeSweep | None = None,
    runner: WorkflowRunner | None = None,
    identity: str | None = None,
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=[DeliveryWorkflow, SweepWorkflow],
        activities=[(delivery or FakeDelivery()).deliver, (sweep or FakeSweep()).sweep],
        workflow_runner=runner or UnsandboxedWorkflowRunner(),
        identity=identity,
    )


async def started(
    client: Client, queue: str, *, lane: Lane = Lane.MEDIUM, epoch: int = 1, workflow_id: str | None = None
) -> WorkflowHandle[DeliveryWorkflow, Progress]:
    cohort = Cohort("00000000-0000-7000-8000-000000000001", epoch, int(lane))
    return await client.start_workflow(
        DeliveryWorkflow.run, cohort, id=workflow_id or f"delivery-{uuid4()}", task_queue=queue,
        execution_timeout=timedelta(hours=2),
    )  # fmt: skip


async def timers(handle: WorkflowHandle[DeliveryWorkflow, Progress]) -> list[float]:
    """The timers that a workflow set, in seconds; those of a millisecond or less are the clock's rounding."""
    events = [event async for event in handle.fetch_history_events()]
    set_ones = [e.timer_started_event_attributes for e in events if e.HasField("timer_started_event_attributes")]
    waits = [timer.start_to_fire_timeout.ToTimedelta() for timer in set_ones]
    return [wait.total_seconds() for wait in waits if wait > timedelta(milliseconds=1)]


async def answered_at(handle: WorkflowHandle[DeliveryWorkflow, Progress]) -> list[datetime]:
    """The server's time of each call's answer, in their order."""
    events = [event async for event in handle.fetch_history_events()]
    return [e.event_time.ToDatetime() for e in events if e.HasField("marker_recorded_event_attributes")]


async def driven(
    client: Client, delivery: FakeDelivery, *, lane: Lane = Lane.MEDIUM, runner: WorkflowRunner | None = None
) -> Progress:
    """Run one workflow to its end with these answers."""
    queue = f"queue-{uuid4()}"
    async with worker(client, queue, delivery=delivery, runner=runner):
        return await (await started(client, queue, lane=lane)).result()


def after(event: asyncio.Event, answer: Driven) -> Callable[[], Awaitable[Driven]]:
    """An answer that waits for an event."""

    async def waiting() -> Driven:
        await event.wait()
        return answer

    return waiting


def then(event: asyncio.Event, answer: Driven) -> Callable[[], Awaitable[Driven]]:
    """An answer that sets an event."""

    async def setting() -> Driven:
        event.set()
        return answer

    return setting
