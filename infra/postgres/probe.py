"""Can this database still take a COMMIT? A question that a SELECT does not answer: a standby, a full disk and a database
that was set read-only all answer SELECTs."""

from __future__ import annotations

from uuid import UUID

import asyncpg

_COMMIT = """
WITH old AS (DELETE FROM probe WHERE at < now() - interval '1 day' AND process <> $1)
INSERT INTO probe (process, at) VALUES ($1, now()) ON CONFLICT (process) DO UPDATE SET at = now()"""


async def commit_probe(pool: asyncpg.Pool, *, process: UUID) -> None:
    """Write a row of this process's own and wait for its COMMIT. Raises what asyncpg raises."""
    await pool.execute(_COMMIT, process)
