"""Who cannot have accepts wait for an index builds it on each partition first, as docs/operations.md says."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import asyncpg

from infra.postgres.migrations import versions

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
INDEXES = """
SELECT i.indexrelid, i.indisvalid FROM pg_index i JOIN pg_inherits p ON p.inhrelid = i.indrelid
WHERE p.inhparent = 'notification'::regclass AND i.indpred IS NOT NULL
AND pg_get_expr(i.indpred, i.indrelid) = 'partial' ORDER BY 1"""


async def test_the_migration_takes_what_was_built_ahead(database: str) -> None:
    """Catches: a statement in the page that builds something else, after which the migration builds it all once more."""
    found = re.search(r"^SELECT (format\('CREATE INDEX CONCURRENTLY.*?) \\gexec$", OPERATIONS.read_text(), re.M | re.S)
    assert found is not None
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("DROP INDEX notification_partial")
        for row in await connection.fetch(f"SELECT {found.group(1)}"):
            await connection.execute(row[0])
        ahead = await connection.fetch(INDEXES)
        await connection.execute(
            resources.files(versions).joinpath("0031_what_arrived_in_part.sql").read_text(encoding="utf-8")
        )
        assert await connection.fetch(INDEXES) == ahead
        assert ahead
        assert all(row["indisvalid"] for row in ahead)
        assert await connection.fetchval(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'notification_partial'::regclass"
        )
    finally:
        await connection.close()
