"""The first tenant, app and key: what an empty installation needs before its API can be used."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from domain.ids import uuid7
from infra.postgres.tenants.keys import key_hash, key_hint, new_key


async def bootstrap(database_url: str, *, tenant: str, app: str, name: str, roles: Sequence[str]) -> str:
    """Make the tenant and app where they are missing, and a new API key each time; returns the key."""
    key = new_key()
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO tenant (id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING", tenant)
            await connection.execute(
                "INSERT INTO app (tenant, id, name) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING", tenant, app
            )
            await connection.execute(
                "INSERT INTO api_key (id, tenant, app, name, key_hash, hint, roles) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                uuid7(), tenant, app, name, key_hash(key), key_hint(key), list(roles),
            )  # fmt: skip
    finally:
        await connection.close()
    return key
