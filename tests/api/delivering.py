"""A notification of the API's, driven through the engine as a worker does."""

from __future__ import annotations

import asyncio
from uuid import UUID

from domain.channels import Channel
from domain.lanes import Lane
from domain.rechecks import Verdict
from infra.postgres.engine.cohorts import CohortRow
from tests.api.conftest import Api
from tests.engine.support import Engine


async def deliver(api: Api, **body: object) -> tuple[str, str | None]:
    """Send it, drive it through the engine as a worker does, and tell its end."""
    sent = await api.post("/v1/notifications", {"content": {"text": "Hello"}, "channels": ["email"], **body})
    assert sent.status_code == 202, sent.text
    notification = UUID(sent.json()["id"])
    engine = Engine.over(api.pool)
    cohort = await grouped(api, notification)
    await engine.plan(cohort)
    for claim in await engine.claim(cohort, Channel.EMAIL):
        sends = claim.verdict is Verdict.SEND
        await engine.flush(engine.answered(claim) if sends else engine.decider(cohort).stopped(claim))
    status, reason, final = await engine.end(notification)
    assert final
    return status, reason


async def grouped(api: Api, notification: UUID) -> CohortRow:
    """The cohort into which the API itself puts it; no workflow takes it up here."""
    query = "SELECT c.* FROM work w JOIN cohort c ON c.id = w.cohort WHERE w.notification_id = $1"
    for _ in range(1000):
        if (row := await api.pool.fetchrow(query, notification)) is not None:
            break
        await asyncio.sleep(0.01)
    assert row is not None
    return CohortRow(row["id"], row["epoch"], Lane(row["lane"]), row["tenant"])
