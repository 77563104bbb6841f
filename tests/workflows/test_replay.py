"""Histories of this version replay: a workflow that is open during a deploy goes on in the new code.

Recorded by `record_histories.py`. When one fails here, the workflow's commands have changed: give the change a
`workflow.patched`, or wait until nothing of the old version is open (15 minutes) before its histories are replaced.
"""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from types import ModuleType

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from tests.workflows.found import WORKFLOWS, recorded, workflows_of
from tests.workflows.record_histories import DELIVERIES, FOLDER
from workflows.delivery import Cohort, DeliveryWorkflow, Progress

FILES = sorted(FOLDER.glob("*.json"))
names = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def history(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(path.stem, path.read_text())


@names
@pytest.mark.parametrize("sandboxed", ["inside", "outside"])
async def test_recorded_histories_replay(path: Path, sandboxed: str) -> None:
    """Catches: another command, another order of commands, another input."""
    runner = SandboxedWorkflowRunner() if sandboxed == "inside" else UnsandboxedWorkflowRunner()
    await Replayer(workflows=list(WORKFLOWS.values()), workflow_runner=runner).replay_workflow(history(path))


@workflow.defn(name="DeliveryWorkflow")
class Changed(DeliveryWorkflow):
    """The same workflow after a change that nobody thought about: it waits a moment first."""

    @workflow.init
    def __init__(self, cohort: Cohort) -> None:
        super().__init__(cohort)

    @workflow.run
    async def run(self, cohort: Cohort) -> Progress:
        await asyncio.sleep(1)
        return await super().run(cohort)


async def test_a_change_of_commands_is_noticed() -> None:
    """The replay itself: a test that passes whatever the workflow does would prove nothing."""
    replayer = Replayer(workflows=[Changed], workflow_runner=UnsandboxedWorkflowRunner())
    with pytest.raises(workflow.NondeterminismError):
        await replayer.replay_workflow(history(FOLDER / "delivery-medium-holds.json"))


def test_every_scenario_has_its_history() -> None:
    """Otherwise one that was added to the recorder is never replayed."""
    assert {path.stem for path in FILES} == {*DELIVERIES, "sweep"}


def test_every_workflow_has_a_history() -> None:
    """A new one fails here until `record_histories.py` records it: without, a deploy could break those that are open."""
    assert set(recorded(FILES)) == set(WORKFLOWS)


def test_every_history_has_its_fingerprint() -> None:
    assert set(FINGERPRINTS) | IN_ANY_ORDER == {path.stem for path in FILES}


def test_a_new_workflow_is_found() -> None:
    """The finding itself, in a module that was just written."""
    module = ModuleType("workflows.brand_new")
    exec("from temporalio import workflow\n" + NEW, vars(module))
    assert list(workflows_of([module])) == ["BrandNewWorkflow"]
    assert "BrandNewWorkflow" not in recorded(FILES)


NEW = """
@workflow.defn(name="BrandNewWorkflow", sandboxed=False)
class New:
    @workflow.run
    async def run(self) -> None:
        pass
"""


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_every_workflow_is_taken_by_the_sandbox(name: str) -> None:
    """What the SDK checks when a sandboxed worker starts: its module is imported under the sandbox's restrictions."""

    async def prepare() -> None:  # in a loop of its own: the SDK leaves its mark on the loop
        SandboxedWorkflowRunner().prepare_workflow(workflow._Definition.must_from_class(WORKFLOWS[name]))

    asyncio.run(prepare())


@names
def test_histories_hold_nothing_of_anybodys(path: Path) -> None:
    """No addresses, no paths, no name of the machine that recorded them."""
    text = path.read_text()
    assert "@" not in text
    assert socket.gethostname() not in text
    assert re.search(r'"/|\.py\b|stackTrace', text) is None
    assert set(re.findall(r'"identity": "([^"]*)"', text)) <= {"recorder", ""}


COMMANDS = re.compile(r'"eventType": "EVENT_TYPE_(ACTIVITY_TASK_SCHEDULED|TIMER_STARTED|TIMER_CANCELED|MARKER_RECORDED)"')
FINGERPRINTS = {
    "delivery-high-holds": "marker timer marker timer marker",
    "delivery-high-one-call": "marker",
    "delivery-medium-fenced": "marker timer marker",
    "delivery-medium-holds": "marker timer marker timer marker timer marker",
    "delivery-medium-one-call": "marker",
    "delivery-unplanned": "marker marker",
    "sweep": "activity",
}
"""Each workflow's commands in words, so that a change of its cost is seen in review: every one is an event, and a timer a
trip to Temporal. (Channels at once end in any order.)"""

IN_ANY_ORDER = {"delivery-medium-channels-at-once"}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints(name: str) -> None:
    """Catches: one trip more that nobody meant; the histories are recorded anew and nobody reads their JSON."""
    text = (FOLDER / f"{name}.json").read_text()
    assert " ".join(word.split("_")[0].lower() for word in COMMANDS.findall(text)) == FINGERPRINTS[name]
