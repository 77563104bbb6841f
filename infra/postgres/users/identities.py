"""The addresses of users: internal id to external ones.

Every change locks the user first: at most one identity of a channel is primary, and a user has a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Conflict, Invalid, NotFound
from domain.identities import MOST_IDENTITIES
from domain.ids import uuid7
from infra.postgres.tables import identity, person

_COLUMNS = (
    identity.c.id, identity.c.person_id, identity.c.channel, identity.c.address, identity.c.app, identity.c.verified,
    identity.c.is_primary, identity.c.created_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """What an identity is to be."""

    channel: str
    address: str
    app: str
    verified: bool
    primary: bool


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    id: UUID
    channel: str
    address: str
    app: str
    verified: bool
    primary: bool
    created_at: datetime


class IdentityRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def listed(self, tenant: str, person_id: str) -> Sequence[StoredIdentity]:
        """All of one user. Raises NotFound."""
        async with self._engine.connect() as connection:
            await _person(connection, tenant, person_id, lock=False)
            return (await identities_of(connection, tenant, [person_id])).get(person_id, [])

    async def add(self, connection: AsyncConnection, tenant: str, person_id: str, *, new: NewIdentity) -> StoredIdentity:
        """In the caller's transaction. Raises NotFound, Conflict (`identity_exists`, erased), Invalid (too many)."""
        if await _person(connection, tenant, person_id) in ("erased", "merged"):
            raise Conflict("This user was erased or merged into another and cannot be changed.")
        count = select(func.count()).where(identity.c.tenant == tenant, identity.c.person_id == person_id)
        if (await connection.execute(count)).scalar_one() >= MOST_IDENTITIES:
            raise Invalid.field("", "too_many", f"A user has at most {MOST_IDENTITIES} identities.")
        [stored] = await add_identities(connection, tenant, person_id, new=[new])
        return stored

    async def change(
        self, tenant: str, person_id: str, identity_id: UUID, *, verified: bool | None, primary: bool | None
    ) -> StoredIdentity:
        """None leaves as it is; making one primary makes the channel's others not. Raises NotFound."""
        wanted = (("verified", verified), ("is_primary", primary))
        values: dict[str, Any] = {name: value for name, value in wanted if value is not None}
        async with self._engine.begin() as connection:
            await _person(connection, tenant, person_id)
            query = select(*_COLUMNS).where(*_one(tenant, person_id, identity_id))
            row = (await connection.execute(query)).first()
            if row is None:
                raise NotFound("This user has no such identity.")
            if primary:
                await _no_primary(connection, tenant, person_id, channels=[row.channel])
            if values:
                statement = (
                    update(identity).where(*_one(tenant, person_id, identity_id)).values(values).returning(*_COLUMNS)
                )
                row = (await connection.execute(statement)).one()
            return _stored(row)

    async def remove(self, tenant: str, person_id: str, identity_id: UUID) -> None:
        """Raises NotFound."""
        async with self._engine.begin() as connection:
            await _person(connection, tenant, person_id)
            gone = await connection.execute(delete(identity).where(*_one(tenant, person_id, identity_id)))
            if gone.rowcount == 0:
                raise NotFound("This user has no such identity.")


async def identities_of(
    connection: AsyncConnection, tenant: str, person_ids: Sequence[str]
) -> dict[str, list[StoredIdentity]]:
    """By user, each channel's primary first, then in the order in which they were added."""
    query = (
        select(*_COLUMNS)
        .where(identity.c.tenant == tenant, identity.c.person_id.in_(person_ids))
        .order_by(identity.c.is_primary.desc(), identity.c.id)
    )
    found: dict[str, list[StoredIdentity]] = {}
    for row in await connection.execute(query):
        found.setdefault(row.person_id, []).append(_stored(row))
    return found


async def add_identities(
    connection: AsyncConnection, tenant: str, person_id: str, *, new: Sequence[NewIdentity]
) -> list[StoredIdentity]:
    """The caller holds the user's lock, or has just made the user. Raises Conflict `identity_exists`."""
    if not new:
        return []
    await _no_primary(connection, tenant, person_id, channels=[one.channel for one in new if one.primary])
    rows = [
        {
            "id": uuid7(), "tenant": tenant, "person_id": person_id, "channel": one.channel, "address": one.address,
            "app": one.app, "verified": one.verified, "is_primary": one.primary,
        }
        for one in new
    ]  # fmt: skip
    statement = insert(identity).values(rows).on_conflict_do_nothing().returning(*_COLUMNS)
    stored = [_stored(row) for row in await connection.execute(statement)]
    if len(stored) < len(rows):
        raise Conflict("This user has this address on this channel already.", code="identity_exists")
    return sorted(stored, key=lambda one: (not one.primary, one.id))


async def _no_primary(connection: AsyncConnection, tenant: str, person_id: str, *, channels: Sequence[str]) -> None:
    if channels:
        await connection.execute(
            update(identity)
            .where(identity.c.tenant == tenant, identity.c.person_id == person_id, identity.c.channel.in_(channels))
            .values(is_primary=False)
        )


async def _person(connection: AsyncConnection, tenant: str, person_id: str, *, lock: bool = True) -> str:
    """Lock the user, and tell its state. Raises NotFound."""
    query = select(person.c.state).where(person.c.tenant == tenant, person.c.id == person_id)
    state: str | None = (await connection.execute(query.with_for_update() if lock else query)).scalar()
    if state is None:
        raise NotFound("There is no user with this id.")
    return state


def _one(tenant: str, person_id: str, identity_id: UUID) -> tuple[Any, ...]:
    return identity.c.tenant == tenant, identity.c.person_id == person_id, identity.c.id == identity_id


def _stored(row: Any) -> StoredIdentity:
    return StoredIdentity(row.id, row.channel, row.address, row.app, row.verified, row.is_primary, row.created_at)
