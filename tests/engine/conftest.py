"""One database for each module of the engine's tests, empty at the start of each test (cloning one costs 0.4 s)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from infra.postgres.database import HOT_STATEMENTS
from tests.engine.support import Engine

_EMPTY = "; ".join(
    f"DELETE FROM {table}"
    for table in ("work", "cohort", "event", "delivery", "notification", "idempotency", "suppression", "person", "tenant")
)


@pytest.fixture(scope="module")
async def module_pool(module_database: str) -> AsyncIterator[asyncpg.Pool]:
    # lock_timeout: where a rule is broken a test fails instead of standing still.
    settings = {**HOT_STATEMENTS, "lock_timeout": "20s"}
    opened = await asyncpg.create_pool(module_database, min_size=1, max_size=8, server_settings=settings)
    yield opened
    await opened.close()


@pytest.fixture
async def pool(module_pool: asyncpg.Pool) -> asyncpg.Pool:
    await module_pool.execute(_EMPTY)
    return module_pool


@pytest.fixture
def engine(pool: asyncpg.Pool) -> Engine:
    return Engine.over(pool)
