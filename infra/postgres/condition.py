"""What an operator asks of the database before trusting it: version, clock, migrations, partitions. Reads only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from domain.ids import uuid7_time
from infra.postgres.partitions import PARENTS

OLDEST_VERSION = 15
"""PostgreSQL's oldest major version that is supported."""

_BASICS = "SELECT current_setting('server_version_num')::int AS version, clock_timestamp() AS now"
_BOUNDS = """
SELECT inhparent::regclass::text AS parent, pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
WHERE inhparent = ANY (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)"""
_END = re.compile(r"TO \('([0-9a-f-]{36})'\)")


@dataclass(frozen=True, slots=True)
class Condition:
    """One look at the database."""

    major_version: int
    now: datetime
    """The server's clock."""
    revision: str | None
    """The last migration that was applied; None for none."""
    partitions_ahead: timedelta | None
    """How far from now the table with the fewest has partitions of its own; None where one has none."""


async def look(connection: asyncpg.Connection) -> Condition:
    """Raises asyncpg.PostgresError."""
    [basics] = await connection.fetch(_BASICS)
    applied = await revision(connection)
    ends: dict[str, datetime] = {}
    for row in await connection.fetch(_BOUNDS, list(PARENTS)):
        if match := _END.search(row["bound"]):  # none: the default partition
            end = uuid7_time(UUID(match[1]))
            ends[row["parent"]] = max(end, ends.get(row["parent"], end))
    ahead = min(ends.values()) - basics["now"] if set(ends) == set(PARENTS) else None
    return Condition(basics["version"] // 10_000, basics["now"], applied, ahead)


async def revision(connection: asyncpg.Connection) -> str | None:
    """The last migration that was applied; None for none."""
    there = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
    return await connection.fetchval("SELECT version_num FROM alembic_version") if there else None


def revisions() -> list[str]:
    """Every migration that this version of the code knows, newest first."""
    from alembic.script import ScriptDirectory  # takes a moment, and only this needs it

    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    return [script.revision for script in scripts.walk_revisions()]
