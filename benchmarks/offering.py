"""Offers work through the batch route, and waits until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import httpx

from benchmarks.instance import Instance

OFFERERS = 2
"""Batch requests under way at a time; the API commits two."""


def client(instance: Instance, key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return httpx.AsyncClient(base_url=instance.api_url, headers=headers, trust_env=False, timeout=60)


async def offer(instance: Instance, batches: int, *, body: Callable[[int], bytes], key: str) -> None:
    """So many batches, `OFFERERS` at a time; `body` is asked for each when its turn has come."""
    turns = asyncio.Semaphore(OFFERERS)

    async def post(api: httpx.AsyncClient, place: int) -> None:
        async with turns:
            answer = await api.post("/v1/notifications/batch", content=body(place))
        if answer.status_code != httpx.codes.ACCEPTED or answer.json()["rejected"]:
            raise AssertionError(f"a batch was answered with {answer.status_code}")

    async with client(instance, key) as api:
        await asyncio.gather(*(post(api, place) for place in range(batches)))


async def until(so: Callable[[], Awaitable[bool]], *, within_s: float, every_s: float, late: str) -> None:
    """Asks every `every_s`. Raises TimeoutError with the text `late`."""
    for _ in range(round(within_s / every_s)):
        if await so():
            return
        await asyncio.sleep(every_s)
    raise TimeoutError(late)


class Lanes:
    """What is open and done in each lane (0 high, 1 medium, 2 low), by the database."""

    def __init__(self, database: asyncpg.Connection) -> None:
        self._database = database

    async def open(self, lane: int, *, tenant: str | None = None) -> int:
        query = "SELECT count(*) FROM work WHERE lane = $1 AND ($2::text IS NULL OR tenant = $2)"
        count: int = await self._database.fetchval(query, lane, tenant)
        return count

    async def any_open(self, lane: int) -> bool:
        """Asked while a message is under way: to count what is open of 100,000 would be 25 ms of a core."""
        return bool(await self._database.fetchval("SELECT EXISTS (SELECT FROM work WHERE lane = $1)", lane))

    async def done(self, lane: int) -> int:
        query = "SELECT count(*) FROM notification WHERE lane = $1 AND status = 'delivered'"
        count: int = await self._database.fetchval(query, lane)
        return count
