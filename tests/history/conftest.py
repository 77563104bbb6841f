"""`store`: the event store under test, each of the three in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from domain.history import EventStore
from infra.history.memory import MemoryEventStore
from infra.history.postgres import PostgresEventStore
from infra.settings import Settings


@pytest.fixture(scope="module")
def memory_store() -> EventStore:
    return MemoryEventStore()


@pytest.fixture(scope="module")
async def postgres_store(module_database: str) -> AsyncIterator[EventStore]:
    async with asyncpg.create_pool(module_database, min_size=1, max_size=6) as pool:
        yield PostgresEventStore(pool)


@pytest.fixture(scope="module")
async def cassandra_store(cassandra: Settings) -> AsyncIterator[EventStore]:
    # Imported here: the driver costs a third of a second, and only these tests need it.
    from infra.cassandra.connection import Cassandra
    from infra.cassandra.history import CassandraEventStore
    from infra.cassandra.schema import create_schema

    connection = await Cassandra.open(cassandra)
    try:
        await create_schema(connection, settings=cassandra, replicas=1)
    finally:
        await connection.close()
    store = await CassandraEventStore.open(cassandra)
    yield store
    await store.close()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("cassandra", marks=[pytest.mark.cassandra, pytest.mark.timeout(600)]),
    ]
)
def store(request: pytest.FixtureRequest) -> EventStore:
    found: EventStore = request.getfixturevalue(f"{request.param}_store")
    return found
