"""Migrations: `python -m infra.postgres.migrate` brings the database to this version; several at once are safe."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from infra.postgres.urls import sqlalchemy_url
from infra.settings import Settings

_FOLDER = Path(__file__).parent / "migrations"
_LOCK_MS = 500
"""How long a change of a table waits for those who use it, and everybody else behind it; then it lets them by. Below
PostgreSQL's deadlock_timeout (1 s), so that where it and the service wait for each other it is the one that steps back."""
_AGAIN = {asyncpg.LockNotAvailableError.sqlstate, asyncpg.DeadlockDetectedError.sqlstate}
_PAUSE_S = 0.5
_PATIENCE_S = 300.0
_LOCK = 0x746F6E67  # "tong": one migration at a time, whichever process comes first


def _upgrade_blocking(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    connection.commit()
    try:
        connection.execute(text(f"SET lock_timeout = {_LOCK_MS}"))
        connection.commit()
        until_s = time.monotonic() + _PATIENCE_S
        while not _upgraded_blocking(connection, last=time.monotonic() >= until_s):
            time.sleep(_PAUSE_S)
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()


def _upgraded_blocking(connection: Connection, *, last: bool) -> bool:
    """False when a table was not to be had: whoever waits for it in front of everybody else stops the whole service."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
        connection.execute(text("SELECT ensure_partitions()"))
        connection.commit()
    except (DBAPIError, asyncpg.LockNotAvailableError) as error:  # SQLAlchemy's, or straight from a script
        state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
        if last or state not in _AGAIN:
            raise
        connection.rollback()
        return False
    return True


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
