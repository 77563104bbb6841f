"""Pages while several writers commit out of order: what was there is seen once, and nothing is seen twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from domain.ids import uuid7
from tests.api.conftest import Api, api, insert_notification

__all__ = ["api"]

Make = Callable[[Any, str], Awaitable[str]]


async def _notification(connection: Any, name: str) -> str:
    return str(await insert_notification(connection, id=uuid7(), app="shop", category=name[:1]))


async def _user(connection: Any, name: str) -> str:
    await connection.execute("INSERT INTO person (tenant, id) VALUES ('acme', $1)", name)
    return name


async def _template(connection: Any, name: str) -> str:
    await connection.execute(
        "INSERT INTO template (tenant, name, category, latest_version) VALUES ('acme', $1, '', 1)", name
    )
    await connection.execute(
        "INSERT INTO template_version (tenant, name, version, contents) VALUES ('acme', $1, 1, '{}')", name
    )
    return name


async def _api_key(connection: Any, name: str) -> str:
    one = uuid7()
    await connection.execute(
        "INSERT INTO api_key (id, tenant, app, name, key_hash, hint, roles) VALUES ($1, 'acme', 'shop', $2, $3, 'x', '{}')",
        one, name, one.bytes,
    )  # fmt: skip
    return str(one)


MOST = 120
LISTS: dict[str, tuple[str, str, Make]] = {
    "notifications": ("/v1/notifications", "id", _notification),
    "users": ("/v1/users", "id", _user),
    "templates": ("/v1/templates", "name", _template),
    "api keys": ("/v1/api-keys", "id", _api_key),
}


@pytest.mark.parametrize("name", LISTS)
async def test_nothing_is_skipped_or_repeated(api: Api, name: str) -> None:
    """Ids are made, held back for a while, and committed in another order than they were made in; a reader pages meanwhile.
    What is committed behind its cursor is not seen by it, what was there before it began always is."""
    path, field, make = LISTS[name]
    before = {await make(api.pool, f"{n:03}-before") for n in range(40)}
    stop = asyncio.Event()
    written: list[str] = []

    async def write(writer: int) -> None:
        turn = 0
        while not stop.is_set() and turn < MOST:  # a list in the order of making would never end otherwise
            async with api.pool.acquire() as connection, connection.transaction():
                for _ in range(random.randint(1, 3)):
                    turn += 1
                    written.append(await make(connection, f"{random.randint(0, 40):03}-{writer}-{turn}"))
                await asyncio.sleep(random.uniform(0, 0.02))

    writers = [asyncio.create_task(write(writer)) for writer in range(4)]
    try:
        for limit in (3, 7, 20):
            there = set(before)
            seen = [item[field] async for items in api.pages(path, limit=limit) for item in items]
            assert len(seen) == len(set(seen))
            assert there <= set(seen)
            assert seen == sorted(seen, reverse=seen[0] > seen[-1]), "in the order of the key"
    finally:
        stop.set()
        await asyncio.gather(*writers)
    assert len(written) > 20
    everything = [item[field] async for items in api.pages(path, limit=500) for item in items]
    assert before | set(written) <= set(everything)
    assert len(everything) == len(set(everything))
