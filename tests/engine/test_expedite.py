"""Expedite and remove: what really happened, and what may not be hurried."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from domain.cancelling import CancelResult
from domain.channels import Channel
from domain.errors import NotFound
from domain.lanes import Lane
from infra.postgres.engine.expediting import Expedited, ExpediteRepository, ExpediteResult
from infra.postgres.engine.removing import RemoveRepository
from tests.engine.support import OK, PERMANENT, RETRY, TENANT, Engine, soon

BOTH: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK]}


async def expedite(engine: Engine, one: UUID) -> Expedited:
    return await ExpediteRepository(engine.pool).expedite(TENANT, notification_id=one)


async def test_what_lies_ahead_is_due_now_in_the_high_lane(engine: Engine) -> None:
    [one] = await engine.accepted(send_at=soon(86_400), lane=Lane.LOW)
    assert await expedite(engine, one) == Expedited(ExpediteResult.EXPEDITED, Lane.HIGH)
    cohort = await engine.grouped(Lane.HIGH)
    await engine.plan(cohort)
    [claim] = await engine.claim(cohort)
    assert not claim.resend_unknown, "what a lost answer leads to stays as it was in the low lane"
    assert await engine.events(one) == ["expedited", "planned"]


async def test_asking_again_and_what_is_due(engine: Engine) -> None:
    [one] = await engine.accepted(lane=Lane.LOW)
    assert (await expedite(engine, one)).result is ExpediteResult.EXPEDITED, "it waited in a slower lane"
    assert (await expedite(engine, one)).result is ExpediteResult.ALREADY_DUE
    cohort, [two] = await engine.planned(lane=Lane.MEDIUM)
    assert await expedite(engine, two) == Expedited(ExpediteResult.ALREADY_DUE, Lane.MEDIUM)
    assert len(await engine.claim(cohort)) == 1, "its workflow keeps it"


async def test_a_retry_is_not_hurried(engine: Engine) -> None:
    """Otherwise a wait that the provider asked for is cut short."""
    cohort, [one] = await engine.planned(**BOTH)
    claims = await engine.claim(cohort)
    assert [s["state"] for s in await engine.work(one)] == [1, 0]
    await engine.answer(claims, RETRY)
    await engine.answer(await engine.claim(cohort, Channel.WEBHOOK), RETRY)
    before = await engine.work(one)
    assert (await expedite(engine, one)).result is ExpediteResult.ALREADY_HANDED_OFF
    assert await engine.work(one) == before


@pytest.mark.parametrize(
    ("result", "said"), [(OK, ExpediteResult.ALREADY_HANDED_OFF), (PERMANENT, ExpediteResult.ALREADY_FINISHED)]
)
async def test_what_has_ended(engine: Engine, result: Any, said: ExpediteResult) -> None:
    cohort, [one] = await engine.planned()
    claims = await engine.claim(cohort)
    assert (await expedite(engine, one)).result is ExpediteResult.ALREADY_HANDED_OFF
    await engine.answer(claims, result)
    assert (await expedite(engine, one)).result is said


async def test_another_tenants_is_not_found(engine: Engine) -> None:
    [one] = await engine.accepted(tenant="other")
    with pytest.raises(NotFound):
        await expedite(engine, one)
    with pytest.raises(NotFound):
        await RemoveRepository(engine.pool).remove(TENANT, notification_id=one)


async def test_a_removed_one_is_never_sent_and_its_rows_stay(engine: Engine) -> None:
    cohort, [one, two] = await engine.planned(2)
    removes = RemoveRepository(engine.pool)
    assert (await removes.remove(TENANT, notification_id=one)).result is CancelResult.CANCELLED
    [claim] = await engine.claim(cohort)
    assert claim.notification_id == two
    assert (await removes.remove(TENANT, notification_id=two)).result is CancelResult.ALREADY_HANDED_OFF
    await engine.answer([claim], OK)
    assert (await engine.end(two))[0] == "sent", "what was in flight keeps its outcome"
    assert await engine.events(one) == ["planned", "cancelled", "deleted"]
    with pytest.raises(NotFound):
        await removes.remove(TENANT, notification_id=one)
