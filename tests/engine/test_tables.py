"""The tables as SQLAlchemy describes them are the tables that the migrations make."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from infra.postgres.tables import PERSONAL, metadata
from infra.postgres.urls import sqlalchemy_url


def _ours(_: Any, name: str | None, kind: str, __: Any, ___: Any) -> bool:
    """Partitions and Alembic's own table are described nowhere."""
    return kind != "table" or name in metadata.tables


def _differences(connection: Connection) -> list[Any]:
    options = {"include_object": _ours, "compare_type": True, "compare_server_default": False}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")  # SQLAlchemy has no name for it
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
async def test_descriptions_and_migrations_agree(database: str) -> None:
    """Catches: a column that one of the two has and the other has not; whoever builds a statement from it is misled."""
    engine = create_async_engine(sqlalchemy_url(database))
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(_differences)
    finally:
        await engine.dispose()
    assert found == []


def test_personal_columns_exist() -> None:
    for table, columns in PERSONAL.items():
        assert set(columns) <= set(metadata.tables[table].c.keys()), table
