"""Records the histories that `test_replay.py` replays:

    python -m tests.workflows.record_histories

Run it, look at the difference and commit it when a workflow's commands are changed on purpose; until all workflows
of the version before have ended (15 minutes after a deploy), that version's histories must still replay, so keep its files.
Everything in them is made up: fixed ids, `recorder` as identity, no failures (their traces would hold paths).
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from domain.lanes import Lane
from infra.temporal import runtime
from tests.workflows.conftest import TEST_SERVER
from tests.workflows.fakes import Answer, FakeDelivery, FakeSweep, started, worker
from workflows.delivery import Driven
from workflows.housekeeping import SweepWorkflow, Swept

FOLDER = Path(__file__).parent / "histories"
IDENTITY = "recorder"

DELIVERIES: dict[str, tuple[Lane, dict[str | None, list[Answer]]]] = {
    "delivery-medium-one-call": (Lane.MEDIUM, {None: [Driven(500)]}),
    "delivery-medium-holds": (
        Lane.MEDIUM,
        {
            None: [Driven(2, {"email": 30.0, "webhook": 5.0})],
            "webhook": [Driven(1, {"email": 10.0})],
            "email": [Driven(1, {"email": 45.0}), Driven(1)],
        },
    ),
    "delivery-medium-channels-at-once": (
        Lane.MEDIUM,
        {
            None: [Driven(0, {"email": 0.0, "webhook": 0.0, "inapp": 0.0})],
            "email": [Driven(1, {"inapp": 20.0, "webhook": 20.0})],
            "webhook": [Driven(1, {"inapp": 20.0, "email": 3.0})],
            "inapp": [Driven(1, {"email": 2.0})],
        },
    ),
    "delivery-medium-fenced": (
        Lane.MEDIUM,
        {None: [Driven(1, {"email": 5.0, "webhook": 50.0})], "email": [Driven()]},
    ),
    "delivery-high-one-call": (Lane.HIGH, {None: [Driven(1)]}),
    "delivery-high-holds": (
        Lane.HIGH,
        {None: [Driven(0, {"email": 1.0})], "email": [Driven(0, {"email": 2.0}), Driven(1)]},
    ),
    "delivery-unplanned": (Lane.LOW, {None: [Driven(0, {"": 0.0})], "": [Driven(3)]}),
}


async def record() -> None:
    """Write one file for each scenario."""
    FOLDER.mkdir(exist_ok=True)
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(TEST_SERVER), identity=IDENTITY, runtime=runtime()
    ) as environment:
        client = environment.client
        for name, (lane, script) in DELIVERIES.items():
            async with worker(client, name, delivery=FakeDelivery(script), identity=IDENTITY):
                handle = await started(client, name, lane=lane, workflow_id=name)
                await handle.result()
            _write(name, (await handle.fetch_history()).to_json_dict())
        async with worker(client, "sweep", sweep=FakeSweep(Swept(1, 0, 2)), identity=IDENTITY):
            sweep = await client.start_workflow(SweepWorkflow.run, id="sweep", task_queue="sweep")
            await sweep.result()
        _write("sweep", (await sweep.fetch_history()).to_json_dict())


def _write(name: str, history: dict[str, object]) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps(history, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    asyncio.run(record())
