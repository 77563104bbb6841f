"""Migrations: `python -m infra.postgres.migrate` brings the database to this version; several at once are safe."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.postgres.urls import sqlalchemy_url
from infra.settings import Settings

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x746F6E67  # "tong": one migration at a time, whichever process comes first


def _upgrade_blocking(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    connection.commit()
    try:
        config = Config()
        config.set_main_option("script_location", str(_FOLDER))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.execute(text("SELECT ensure_partitions()"))
        connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()


async def migrate(url: str) -> None:
    """Bring the database at `url` (postgresql://...) to the newest version and make the coming partitions."""
    engine = create_async_engine(sqlalchemy_url(url))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade_blocking)
    finally:
        await engine.dispose()


def main() -> int:
    asyncio.run(migrate(Settings().database_url.get_secret_value()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
