"""`DeliveryWorkflow` by itself: when it calls for which account, and when it ends. Time passes at once here."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from domain.lanes import Lane
from tests.workflows.fakes import FakeDelivery, FakeSweep, after, answered_at, driven, started, then, timers, worker
from workflows.delivery import Drive, Driven
from workflows.housekeeping import SweepWorkflow, Swept


async def test_a_cohort_without_trouble_needs_one_call(skipping: WorkflowEnvironment) -> None:
    """Each further one costs milliseconds of everybody."""
    delivery = FakeDelivery({None: [Driven(5)]})
    progress = await driven(skipping.client, delivery)
    assert (progress.handed_over, progress.rounds) == (5, 1)
    assert delivery.calls == [Drive("00000000-0000-7000-8000-000000000001", 1, int(Lane.MEDIUM), None)]


async def test_it_holds_until_the_next_row_is_due(skipping: WorkflowEnvironment) -> None:
    """Catches: calling at once (a busy loop through Temporal), and never again."""
    delivery = FakeDelivery({None: [Driven(1, {"email": 90.0})], "email": [Driven(1, {"email": 45.0}), Driven(2)]})
    async with worker(skipping.client, "holds", delivery=delivery):
        handle = await started(skipping.client, "holds")
        progress = await handle.result()
    assert delivery.accounts == [None, "email", "email"]
    assert [round(seconds) for seconds in await timers(handle)] == [90, 45]
    assert (progress.handed_over, progress.rounds) == (4, 3)


async def test_what_is_due_at_once_is_called_for_at_once(skipping: WorkflowEnvironment) -> None:
    """The first call left because its time was up, not because it was done."""
    delivery = FakeDelivery({None: [Driven(9, {"email": 0.0})]})
    await driven(skipping.client, delivery)
    assert delivery.accounts == [None, "email"]


async def test_accounts_are_called_for_at_their_own_times(skipping: WorkflowEnvironment) -> None:
    """Catches: one wait for all. The webhook's retry would come with the mail's, an hour late."""
    delivery = FakeDelivery(
        {
            None: [Driven(0, {"email": 600.0, "webhook": 5.0})],
            "webhook": [Driven(1, {"email": 595.0})],
            "email": [Driven(1)],
        }
    )
    async with worker(skipping.client, "own-times", delivery=delivery):
        handle = await started(skipping.client, "own-times")
        await handle.result()
    first, webhook, email = await answered_at(handle)
    assert delivery.accounts == [None, "webhook", "email"]
    assert timedelta(seconds=5) <= webhook - first < timedelta(seconds=600)
    assert email - webhook >= timedelta(seconds=594)


async def test_an_account_that_becomes_due_earlier_is_called_for_earlier(skipping: WorkflowEnvironment) -> None:
    """Catches: the first wait is kept. A chain went on to mail meanwhile; its row would wait ten minutes for nothing."""
    delivery = FakeDelivery(
        {None: [Driven(0, {"email": 600.0, "webhook": 5.0})], "webhook": [Driven(1, {"email": 20.0})], "email": [Driven(1)]}
    )
    async with worker(skipping.client, "earlier", delivery=delivery):
        handle = await started(skipping.client, "earlier")
        await handle.result()
    _, webhook, email = await answered_at(handle)
    assert delivery.accounts == [None, "webhook", "email"]
    assert timedelta(seconds=19) <= email - webhook < timedelta(seconds=300)


async def test_a_slow_account_holds_up_no_other(skipping: WorkflowEnvironment) -> None:
    """Catches: rounds that wait for all accounts. The slowest provider would set the pace."""
    done = asyncio.Event()
    more = {"email": 10.0, "webhook": 0.0}
    delivery = FakeDelivery(
        {
            None: [Driven(0, {"email": 0.0, "webhook": 0.0})],
            "email": [after(done, Driven(1))],
            "webhook": [Driven(1, more), Driven(1, more), then(done, Driven(1, {"email": 10.0}))],
        }
    )
    await driven(skipping.client, delivery)
    assert delivery.accounts.count("webhook") == 3
    assert delivery.accounts.count("email") == 1


async def test_a_stale_picture_keeps_nothing_open(skipping: WorkflowEnvironment) -> None:
    """Caught: the webhook's call looked while mail was in flight and said `in 20 seconds, when it would be unknown`; the
    cohort ended, and its workflow stayed open for a call that finds nothing."""
    looked = asyncio.Event()
    delivery = FakeDelivery(
        {
            None: [Driven(0, {"email": 0.0, "webhook": 0.0})],
            "webhook": [then(looked, Driven(1, {"email": 20.0}))],
            "email": [after(looked, Driven(1))],
        }
    )
    await driven(skipping.client, delivery)
    assert sorted(delivery.accounts, key=str) == [None, "email", "webhook"]


async def test_a_fenced_workflow_ends(skipping: WorkflowEnvironment) -> None:
    """Another epoch drives the cohort: whatever this one still had on its list is not its own any more."""
    delivery = FakeDelivery({None: [Driven(1, {"email": 5.0, "webhook": 30.0, "inapp": 60.0})], "email": [Driven()]})
    await driven(skipping.client, delivery)
    assert delivery.accounts == [None, "email"]


async def test_rows_that_are_not_planned_yet_are_called_for(skipping: WorkflowEnvironment) -> None:
    """They have no account: the empty name stands for `plan, then all`."""
    delivery = FakeDelivery({None: [Driven(0, {"": 0.0})], "": [Driven(3)]})
    assert (await driven(skipping.client, delivery)).handed_over == 3
    assert delivery.accounts == [None, ""]


async def test_failures_of_ours_are_retried(skipping: WorkflowEnvironment) -> None:
    """The database was away for a while: that is Temporal's to repeat, and no reason to start over."""
    delivery = FakeDelivery({None: [OSError("away"), OSError("away"), Driven(1)]})
    progress = await driven(skipping.client, delivery)
    assert delivery.accounts == [None] * 3
    assert progress.rounds == 1


async def test_progress_can_be_asked_for(skipping: WorkflowEnvironment) -> None:
    """What an operator sees of a cohort that holds."""
    delivery = FakeDelivery({None: [Driven(7, {"email": 600.0})]})
    async with worker(skipping.client, "progress", delivery=delivery):
        handle = await started(skipping.client, "progress")
        await handle.result()
        progress = await handle.query("progress")
    assert progress["handed_over"] == 7
    assert progress["rounds"] == 2


async def test_deliveries_run_inside_the_sdks_sandbox(skipping: WorkflowEnvironment) -> None:
    """Workers run them outside of it, for speed; the sandbox is what finds a clock, a random number or I/O in them."""
    delivery = FakeDelivery({None: [Driven(1, {"email": 5.0})], "email": [Driven(1)]})
    progress = await driven(skipping.client, delivery, runner=SandboxedWorkflowRunner())
    assert progress.rounds == 2


@pytest.mark.parametrize("sandboxed", ["inside", "outside"])
async def test_the_sweep_reports_what_it_found(skipping: WorkflowEnvironment, sandboxed: str) -> None:
    """The schedule's list of runs is where an operator looks first."""
    runner, queue = (SandboxedWorkflowRunner() if sandboxed == "inside" else None), f"sweep-{sandboxed}"
    async with worker(skipping.client, queue, sweep=FakeSweep(Swept(1, 2, 3)), runner=runner):
        found = await skipping.client.execute_workflow(SweepWorkflow.run, id=queue, task_queue=queue)
    assert found == Swept(redriven=1, orphans=2, unknown=3)
