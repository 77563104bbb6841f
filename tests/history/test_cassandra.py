"""What only Cassandra's adapter can get wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from cassandra import InvalidRequest
from cassandra.query import SimpleStatement
from pydantic import SecretStr

from domain.errors import Unavailable
from domain.history import Event
from domain.ids import uuid7
from infra.cassandra.connection import IN_FLIGHT, Cassandra
from infra.cassandra.history import CassandraEventStore
from infra.cassandra.schema import create_schema
from infra.settings import Settings
from tests.history.events import event

pytestmark = [pytest.mark.cassandra, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
async def settings(cassandra: Settings) -> Settings:
    return cassandra.model_copy(update={"cassandra_keyspace": "tongda_test_cassandra"})


@pytest.fixture(scope="module")
async def connection(settings: Settings) -> AsyncIterator[Cassandra]:
    connection = await Cassandra.open(settings)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def store(connection: Cassandra, settings: Settings) -> AsyncIterator[CassandraEventStore]:
    await create_schema(connection, settings=settings, replicas=1)
    store = await CassandraEventStore.open(settings)
    yield store
    await store.close()


async def test_the_schema_is_made_again_without_harm(
    connection: Cassandra, settings: Settings, store: CassandraEventStore
) -> None:
    one = event(uuid7())
    await store.append([one])
    await create_schema(connection, settings=settings, replicas=1)
    assert list(await store.timeline(one.notification_id)) == [one]
    rows = await connection.execute(
        "SELECT compaction, default_time_to_live FROM system_schema.tables"
        f" WHERE keyspace_name = '{settings.cassandra_keyspace}' AND table_name = 'event'"
    )
    ((compaction, time_to_live_s),) = rows
    assert compaction["class"].endswith("TimeWindowCompactionStrategy")
    assert time_to_live_s == 3 * 365 * 86_400


async def test_without_the_schema_it_says_what_to_run(cassandra: Settings) -> None:
    empty = cassandra.model_copy(update={"cassandra_keyspace": "nobody_made_this"})
    with pytest.raises(Unavailable, match=r"infra\.cassandra\.schema") as caught:
        await CassandraEventStore.open(empty)
    assert caught.value.code == "schema_missing"


async def test_a_wrong_password_is_called_that(cassandra: Settings) -> None:
    wrong = cassandra.model_copy(update={"cassandra_password": SecretStr("wrong")})
    with pytest.raises(Unavailable, match="password") as caught:
        await Cassandra.open(wrong)
    assert caught.value.code == "refused"


async def test_an_unknown_data_centre_is_named_with_the_known_ones(cassandra: Settings) -> None:
    """Otherwise every statement fails with "no host available", on a cluster that is well."""
    elsewhere = cassandra.model_copy(update={"cassandra_datacenter": "shanghai"})
    with pytest.raises(Unavailable, match=r"'shanghai'; the cluster has: datacenter1"):
        await Cassandra.open(elsewhere)


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Cassandra.open(Settings(cassandra_hosts=("127.0.0.1:1",)))
    with pytest.raises(Unavailable, match="TONGDA_CASSANDRA_HOSTS"):
        await Cassandra.open(Settings(cassandra_hosts=()))


async def test_a_defect_of_ours_is_not_called_unavailable(connection: Cassandra) -> None:
    with pytest.raises(InvalidRequest):
        await connection.execute("SELECT nothing_like_it FROM system.local")


async def test_what_is_large_is_split(store: CassandraEventStore) -> None:
    """One batch of all of it would be above half a commit log segment (8 MiB here), which the server refuses."""
    notification = uuid7()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    events = [Event(notification, uuid7(), n=0, at=at, type="x", detail={"x": "y" * 500_000}) for _ in range(18)]
    await store.append(events)
    assert list(await store.timeline(notification)) == events


async def test_more_than_the_sockets_hold_waits_for_its_turn(store: CassandraEventStore) -> None:
    """The driver refuses what finds the socket full ("overloaded"); a server slows clients down by reading no further."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    events = [Event(uuid7(), uuid7(), n=0, at=at, type="x", detail={"x": "y" * 500_000}) for _ in range(60)]
    await store.append(events)
    assert [list(await store.timeline(one.notification_id)) for one in events] == [[one] for one in events]


async def test_a_cancelled_caller_keeps_no_slot(connection: Cassandra) -> None:
    """Caught: slots given back only by callers that wait to the end; after IN_FLIGHT cancellations nothing goes out."""
    statement = SimpleStatement("SELECT key FROM system.local")
    for _ in range(3):
        tasks = [asyncio.create_task(connection.execute(statement)) for _ in range(IN_FLIGHT * 2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(connection.execute(statement) for _ in range(IN_FLIGHT * 3)))
    assert all(len(rows) == 1 for rows in answers)
