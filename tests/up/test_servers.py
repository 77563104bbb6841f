"""The embedded servers as every other test gets them."""

from __future__ import annotations

import asyncpg
import pytest
from temporalio.client import Client

from infra.temporal import SEARCH_ATTRIBUTES


@pytest.mark.postgres
async def test_a_database_is_migrated_utf8_and_of_locale_c(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM notification") == 0
        row = await connection.fetchrow(
            "SELECT pg_encoding_to_char(encoding) AS encoding, datcollate FROM pg_database"
            " WHERE datname = current_database()"
        )
        assert row is not None
        assert (row["encoding"], row["datcollate"]) == ("UTF8", "C")
    finally:
        await connection.close()


@pytest.mark.postgres
async def test_each_test_has_a_database_of_its_own(database: str, module_database: str) -> None:
    assert database != module_database


@pytest.mark.postgres
async def test_a_wrong_password_is_refused(postgres_url: str) -> None:
    scheme, _, rest = postgres_url.partition("://")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"{scheme}://tongda:wrong@{rest.rpartition('@')[2]}")


@pytest.mark.temporal
async def test_temporal_knows_the_search_attributes(temporal_address: str) -> None:
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest

    client = await Client.connect(temporal_address)
    answer = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="default"))
    assert set(SEARCH_ATTRIBUTES) <= set(answer.custom_attributes)
