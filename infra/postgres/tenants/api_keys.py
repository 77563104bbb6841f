"""API keys: who asks (the hot look-up), and their administration. Keys themselves are never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import Conflict, Invalid, NotFound
from domain.ids import uuid7
from infra.postgres.database import Database
from infra.postgres.tables import api_key, app
from infra.postgres.tenants.keys import key_hash, key_hint, new_key

_FIND = """
SELECT id, tenant, app, roles, expires_at FROM api_key
WHERE key_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"""

_COLUMNS = (
    api_key.c.id, api_key.c.app, api_key.c.name, api_key.c.hint, api_key.c.roles, api_key.c.created_by,
    api_key.c.created_at, api_key.c.expires_at, api_key.c.revoked_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundKey:
    """What a presented key stands for."""

    id: UUID
    tenant: str
    app: str
    roles: Sequence[str]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as lists show it."""

    id: UUID
    app: str
    name: str
    hint: str
    roles: Sequence[str]
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key is to be."""

    app: str
    name: str
    roles: Sequence[str]
    expires_at: datetime | None


class ApiKeyRepository:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._engine = database.engine

    async def find(self, hash_: bytes) -> FoundKey | None:
        """The key with this hash, if it is in force now by the database's clock."""
        row = await self._pool.fetchrow(_FIND, hash_)
        return None if row is None else FoundKey(row["id"], row["tenant"], row["app"], row["roles"], row["expires_at"])

    async def create(self, connection: AsyncConnection, tenant: str, new: NewKey, *, by: UUID) -> tuple[StoredKey, str]:
        """In the caller's transaction: the stored key and, this once, the key itself. Raises Invalid for an unknown app."""
        return await _insert(connection, tenant, new, by=by)

    async def listed(self, tenant: str, *, after: UUID, limit: int, app_id: str | None) -> list[StoredKey]:
        """Oldest first, from the first behind `after`; revoked and expired ones too."""
        query = (
            select(*_COLUMNS).where(api_key.c.tenant == tenant, api_key.c.id > after).order_by(api_key.c.id).limit(limit)
        )
        if app_id is not None:
            query = query.where(api_key.c.app == app_id)
        async with self._engine.connect() as connection:
            return [_stored(row) for row in await connection.execute(query)]

    async def get(self, tenant: str, key_id: UUID) -> StoredKey:
        """Raises NotFound."""
        async with self._engine.connect() as connection:
            return await _get(connection, tenant, key_id)

    async def revoke(self, tenant: str, key_id: UUID) -> None:
        """From now on; asking again changes nothing. Raises NotFound."""
        statement = (
            update(api_key)
            .where(api_key.c.tenant == tenant, api_key.c.id == key_id)
            .values(revoked_at=func.coalesce(api_key.c.revoked_at, func.now()))
        )
        async with self._engine.begin() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                raise NotFound("There is no such key.")

    async def rotate(
        self, connection: AsyncConnection, tenant: str, key_id: UUID, *, by: UUID, overlap: timedelta
    ) -> tuple[StoredKey, str]:
        """In the caller's transaction: a new key like this one, which ends after `overlap`, or earlier if it was to.

        Raises NotFound, Conflict `key_revoked`.
        """
        old = await _get(connection, tenant, key_id, lock=True)
        now: datetime = (await connection.execute(select(func.now()))).scalar_one()
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise Conflict("This key is revoked or expired; create a new one.", code="key_revoked")
        ends = now + overlap if old.expires_at is None else min(now + overlap, old.expires_at)
        await connection.execute(
            update(api_key).where(api_key.c.tenant == tenant, api_key.c.id == key_id).values(expires_at=ends)
        )
        return await _insert(connection, tenant, NewKey(old.app, old.name, old.roles, old.expires_at), by=by)


async def _get(connection: AsyncConnection, tenant: str, key_id: UUID, *, lock: bool = False) -> StoredKey:
    query = select(*_COLUMNS).where(api_key.c.tenant == tenant, api_key.c.id == key_id)
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        raise NotFound("There is no such key.")
    return _stored(row)


async def _insert(connection: AsyncConnection, tenant: str, new: NewKey, *, by: UUID) -> tuple[StoredKey, str]:
    known = await connection.execute(select(app.c.id).where(app.c.tenant == tenant, app.c.id == new.app))
    if known.first() is None:
        raise Invalid.field("/app", "unknown", "There is no app with this id; create it first.")
    key = new_key()
    statement = (
        insert(api_key)
        .values(
            id=uuid7(), tenant=tenant, app=new.app, name=new.name, key_hash=key_hash(key), hint=key_hint(key),
            roles=list(new.roles), created_by=by, expires_at=new.expires_at,
        )
        .returning(*_COLUMNS)
    )  # fmt: skip
    return _stored((await connection.execute(statement)).one()), key


def _stored(row: Any) -> StoredKey:
    return StoredKey(
        row.id, row.app, row.name, row.hint, row.roles, row.created_by, row.created_at, row.expires_at, row.revoked_at
    )
