"""Batches never sit in front of a one-time code, nor of any single request: not in the process, not at the database."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from api.accept import batch, service
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.accept.row import Row
from tests.accept.conftest import Api, body

pytestmark = pytest.mark.postgres

CODE = {"to": {"email": "fang@example.com"}}
BATCHES = 8
IN_TIME_S = 20.0
"""Far longer than an answer takes, and within the time that a batch may wait for its turn."""


@pytest.fixture
async def stuck(api: Api, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """Batches on their way; those that commit stand still, each with a connection in its hands."""
    go_on = asyncio.Event()
    at_the_database = asyncio.Event()
    store = AcceptRepository.store_batch

    async def standing(self: AcceptRepository, rows: list[Row], *, key: Key | None) -> bool:
        async with self.connection():
            at_the_database.set()
            await go_on.wait()
        return await store(self, rows, key=key)

    monkeypatch.setattr(AcceptRepository, "store_batch", standing)
    whole = {"notifications": [body() for _ in range(100)]}
    batches = [asyncio.create_task(api.post(whole, path="/v1/notifications/batch")) for _ in range(BATCHES)]
    await at_the_database.wait()
    yield batches
    go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*batches)} == {202}
    assert await api.count() == BATCHES * 100 + 3


async def test_single_requests_are_committed_while_batches_stand_at_the_database(
    api: Api, stuck: list[asyncio.Task[httpx.Response]]
) -> None:
    async with asyncio.timeout(IN_TIME_S):
        answers = [
            await api.post(CODE, path="/v1/otp"),
            await api.post(body(priority="high")),
            await api.post(body(priority="low", to={"user": "u-1"}, channels=["inapp"])),
        ]
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    assert not any(task.done() for task in stuck)


async def test_a_batch_that_is_read_lets_others_have_their_turns(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a thousand items judged in one go, 10 ms and more in which this process answers nobody."""
    judged: list[int] = []
    items = 0

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def one(*args: object, **kwargs: object) -> Any:
            nonlocal items
            items += 1
            return work(*args, **kwargs)

        return one

    async def others() -> None:
        while True:
            judged.append(items)
            await asyncio.sleep(0)

    monkeypatch.setattr(batch, "checked", counted(service.checked))
    monkeypatch.setattr(service.AcceptService, "prepared", counted(service.AcceptService.prepared))
    whole = {"notifications": [body() for _ in range(1000)]}
    beside = asyncio.create_task(others())
    answer = await api.post(whole, path="/v1/notifications/batch")
    beside.cancel()
    assert (answer.json()["accepted"], items) == (1000, 2000)
    most = max(later - earlier for earlier, later in itertools.pairwise(judged))
    assert 0 < most <= batch.ITEMS_A_TURN
