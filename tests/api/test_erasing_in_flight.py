"""An erasure and what is on its way at the same time: the truth is recorded, and brings nothing back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from channels.base import InboxItem
from domain.channels import Channel
from infra.postgres.inbox.items import Inbox
from tests.api.conftest import TENANT, Api, insert_notification
from tests.api.delivering import grouped
from tests.api.erasing_support import MARK, PATH, erased, found, later
from tests.engine.support import RETRY, Engine


async def in_flight(api: Api) -> tuple[Engine, Any, Any, UUID]:
    """A message to u-1 in the hands of a provider."""
    email = {"channel": "email", "address": f"{MARK}@example.com"}
    await api.post("/v1/users", {"id": "u-1", "identities": [email]})
    sent = await api.post(
        "/v1/notifications", {"to": {"user": "u-1"}, "channels": ["email"], "content": {"text": MARK}}
    )  # fmt: skip
    notification = UUID(sent.json()["id"])
    engine = Engine.over(api.pool)
    cohort = await grouped(api, notification)
    await engine.plan(cohort)
    [claim] = await engine.claim(cohort, Channel.EMAIL)
    return engine, cohort, claim, notification


async def test_what_is_in_flight_is_said_and_waited_for(api: Api) -> None:
    """It may arrive, and its answer comes later: the truth is recorded, without the address. Nothing follows it."""
    engine, _, claim, notification = await in_flight(api)
    assert [(await erased(api))[name] for name in ("in_flight", "cancelled")] == [1, 0]
    await later(api)
    assert (await erased(api))["progress"] == "under_way"
    await engine.flush(engine.answered(claim))
    assert await engine.end(notification) == ("sent", None, True)
    assert await found(api, MARK) == dict.fromkeys(await found(api, MARK), 0)
    await later(api)
    assert (await erased(api, status=200))["in_flight"] == 0


async def test_a_retry_that_was_asked_for_does_not_come(api: Api) -> None:
    engine, _, claim, notification = await in_flight(api)
    await erased(api)
    await engine.flush(engine.answered(claim, RETRY))
    assert await engine.end(notification) == ("cancelled", "cancelled_by_request", True)
    assert await api.count("work") == 0


async def test_a_word_that_comes_after_the_end_brings_no_address_back(api: Api) -> None:
    """Catches: a worker that stood still. Its answer was given up as lost and the erasure is finished when it wakes up."""
    engine, _, claim, notification = await in_flight(api)
    await engine.flush(engine.decider().lost(claim))
    await erased(api)
    await later(api)
    assert (await erased(api, status=200))["progress"] == "finished"
    await engine.flush(engine.answered(claim))
    assert await engine.end(notification) == ("sent", None, True)
    assert await found(api, MARK) == dict.fromkeys(await found(api, MARK), 0)


async def test_no_message_comes_into_an_erased_inbox(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    done = await insert_notification(api.pool, user_id="u-1")
    await erased(api)
    expires_at = datetime.now(UTC) + timedelta(days=1)
    late = InboxItem(
        tenant=TENANT, user_id="u-1", notification_id=done, n=1, title=MARK, text=MARK, url=None, category="c", data={},
        expires_at=expires_at,
    )  # fmt: skip
    await Inbox(api.container.database).store([late])
    assert await api.count("inbox_item") == 0


async def test_an_identity_that_comes_at_the_same_moment_is_refused_or_erased(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})

    async def add(number: int) -> httpx.Response:
        return await api.post("/v1/users/u-1/identities", {"channel": "wecom", "address": f"{MARK}-{number}"})

    answers = await asyncio.gather(*(add(n) for n in range(5)), api.post(PATH), *(add(n) for n in range(5, 10)))
    assert {answer.status_code for answer in answers} <= {201, 202, 409}
    assert await api.count("identity") == 0
