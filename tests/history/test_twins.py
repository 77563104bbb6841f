"""An event store that is away says so, whichever it is."""

from __future__ import annotations

import asyncpg
import pytest

from domain.errors import Unavailable
from domain.ids import uuid7
from infra.history.memory import MemoryEventStore
from infra.history.postgres import PostgresEventStore
from tests.history.events import event


async def test_memory_is_away_when_told_to_be() -> None:
    store = MemoryEventStore()
    store.away = True
    with pytest.raises(Unavailable):
        await store.append([event(uuid7())])
    store.away = False
    assert store.appended == []


@pytest.mark.postgres
async def test_postgres_is_away(database: str) -> None:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=1)
    store = PostgresEventStore(pool)
    await pool.close()
    with pytest.raises(Unavailable):
        await store.append([event(uuid7())])
    with pytest.raises(Unavailable):
        await store.timeline(uuid7())


@pytest.mark.postgres
async def test_a_row_that_cannot_be_written_is_no_absence(database: str) -> None:
    """Otherwise a writer would try it again for ever."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        with pytest.raises(asyncpg.DataError):
            await PostgresEventStore(pool).append([event(uuid7(), n=1 << 40)])
