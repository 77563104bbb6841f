"""One database for each module of the engine's tests, empty at the start of each test (cloning one costs 0.4 s)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from infra.postgres.database import HOT_STATEMENTS
from tests.engine.support import Engine

EMPTY = "; ".join(
    f"DELETE FROM {table}"
    for table in (
        "work",
        "cohort",
        "event",
        "delivery",
        "notification",
        "idempotency",
        "suppression",
        "cap_use",
        "category",
        "person",
        "receipt_inbox",
        "permit",
        "tenant",
    )
)


_CLOSES_WITHIN_S = 20.0


async def open_pool(url: str) -> asyncpg.Pool:
    # lock_timeout: where a rule is broken a test fails instead of standing still.
    settings = {**HOT_STATEMENTS, "lock_timeout": "20s"}
    return await asyncpg.create_pool(url, min_size=1, max_size=8, server_settings=settings)


@pytest.fixture(scope="module")
async def module_pool(module_database: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(module_database)
    yield opened
    # A connection that somebody has kept is told soon, and not by the time-out of whatever test was last.
    async with asyncio.timeout(_CLOSES_WITHIN_S):
        await opened.close()


@pytest.fixture
async def pool(module_pool: asyncpg.Pool) -> asyncpg.Pool:
    await module_pool.execute(EMPTY)
    return module_pool


@pytest.fixture
def engine(pool: asyncpg.Pool) -> Engine:
    return Engine.over(pool)
