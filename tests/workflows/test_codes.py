"""What Temporal keeps of a failure: a code, never a text that may hold an address."""

from __future__ import annotations

import contextlib
from uuid import uuid4

import asyncpg
import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from domain.errors import Broken, Failed, NotFound
from domain.lanes import Lane
from tests.workflows.fakes import started
from tests.workflows.wiring import serving
from workers.roles import Role
from workflows.delivery import ACTIVITY, DeliveryWorkflow, Drive, Driven, Progress

CANARY = "canary@example.com"


class Failing:
    """`deliver`, which fails with these errors one after another."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    @activity.defn(name=ACTIVITY)
    async def deliver(self, drive: Drive) -> Driven:
        if self._errors:
            raise self._errors.pop(0)
        return Driven(1)


def wrapped() -> Exception:
    """An error whose cause and context hold the address as well."""
    try:
        raise KeyError(CANARY)
    except KeyError as cause:
        error = RuntimeError(f"no mailbox {CANARY}")
        error.__cause__ = cause
        return error


async def history_of(
    client: Client, pool: asyncpg.Pool, *errors: Exception
) -> tuple[WorkflowHandle[DeliveryWorkflow, Progress], str]:
    async with serving(client, pool, delivery=Failing(*errors), roles=(Role.HIGH, Role.MEDIUM)):
        handle = await started(client, Lane.MEDIUM.label, lane=Lane.MEDIUM, workflow_id=f"codes-{uuid4()}")
        with contextlib.suppress(WorkflowFailureError):
            await handle.result()
        return handle, (await handle.fetch_history()).to_json()


@pytest.mark.parametrize(
    "error", [wrapped(), asyncpg.DataError(f"invalid input: {CANARY}"), Failed(f"could not reach {CANARY}")]
)
async def test_a_failure_that_is_retried_leaves_nothing(client: Client, pool: asyncpg.Pool, error: Exception) -> None:
    """Catches: exceptions as they come. Histories are kept for weeks, exported and shown to everybody with the Web UI;
    erasing a person does not reach them."""
    handle, history = await history_of(client, pool, error)
    assert CANARY not in history
    assert (await handle.result()).handed_over == 1


@pytest.mark.parametrize(("error", "code"), [(Broken(CANARY), "broken"), (NotFound(CANARY), "not_found")])
async def test_a_failure_that_ends_the_workflow_is_its_code(
    client: Client, pool: asyncpg.Pool, error: Exception, code: str
) -> None:
    """A permanent one is not retried: the sweep drives the cohort again later."""
    handle, history = await history_of(client, pool, error)
    assert CANARY not in history
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message, cause.non_retryable, cause.details) == (code, code, True, ())
