"""Users: profiles and their state. Their addresses are in `infra.postgres.users.identities`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, Select, Text, bindparam, cast, exists, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Conflict, NotFound
from infra.postgres.tables import identity, person
from infra.postgres.users.identities import NewIdentity, StoredIdentity, add_identities, identities_of

LIVING = ("active", "deactivated")
"""States in which a profile can be changed; erased and merged ones only remain as a trace."""

_COLUMNS = (
    person.c.id, person.c.name, person.c.locale, person.c.time_zone, person.c.attributes, person.c.state,
    person.c.created_at, person.c.updated_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """What a new user is to be."""

    id: str
    name: str | None
    locale: str
    time_zone: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredPerson:
    profile: Profile
    state: str
    created_at: datetime
    updated_at: datetime
    identities: Sequence[StoredIdentity]


@dataclass(frozen=True, slots=True)
class PersonFilters:
    """What a list shows; None shows all. `channel` and `address` find users by their address."""

    state: str | None = None
    channel: str | None = None
    address: str | None = None


class PersonRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(
        self, connection: AsyncConnection, tenant: str, *, profile: Profile, identities: Sequence[NewIdentity]
    ) -> StoredPerson:
        """In the caller's transaction. Raises Conflict `user_exists`."""
        statement = (
            insert(person)
            .values(
                tenant=tenant, id=profile.id, name=profile.name, locale=profile.locale, time_zone=profile.time_zone,
                attributes=dict(profile.attributes),
            )
            .on_conflict_do_nothing()
            .returning(*_COLUMNS)
        )  # fmt: skip
        row = (await connection.execute(statement)).first()
        if row is None:
            raise Conflict("A user with this id exists: change it with PATCH.", code="user_exists")
        return _stored(row, await add_identities(connection, tenant, profile.id, new=identities))

    async def get(self, tenant: str, person_id: str) -> StoredPerson:
        """Raises NotFound."""
        async with self._engine.connect() as connection:
            return await _read(connection, tenant, person_id)

    async def listed(self, tenant: str, *, after: str, limit: int, filters: PersonFilters) -> list[StoredPerson]:
        """By id, from the first behind `after`."""
        query = select(*_COLUMNS).where(person.c.tenant == tenant, person.c.id > after).order_by(person.c.id).limit(limit)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_filtered(query, filters))).all()
            found = await identities_of(connection, tenant, [row.id for row in rows])
        return [_stored(row, found.get(row.id, [])) for row in rows]

    async def change(
        self, tenant: str, person_id: str, *, values: Mapping[str, Any], attributes: Mapping[str, Any] | None
    ) -> StoredPerson:
        """Set columns; `attributes` are merged, and those that are None removed. Raises NotFound, Conflict."""
        changes: dict[str, Any] = {**values, "updated_at": func.now()}
        if attributes is not None:
            gone = [name for name, value in attributes.items() if value is None]
            merged = person.c.attributes.op("||")(bindparam("merged", dict(attributes), type_=JSONB))
            changes["attributes"] = merged.op("-")(cast(gone, ARRAY(Text))) if gone else merged
        statement = (
            update(person)
            .where(person.c.tenant == tenant, person.c.id == person_id, person.c.state.in_(LIVING))
            .values(changes)
        )
        async with self._engine.begin() as connection:
            changed = (await connection.execute(statement)).rowcount
            found = await _read(connection, tenant, person_id)
            if not changed:
                raise Conflict("This user was erased or merged into another and cannot be changed.")
            return found


def _filtered(query: Select[Any], filters: PersonFilters) -> Select[Any]:
    if filters.state is not None:
        query = query.where(person.c.state == filters.state)
    wanted = [
        column == value
        for column, value in ((identity.c.channel, filters.channel), (identity.c.address, filters.address))
        if value is not None
    ]
    if wanted:
        same = (identity.c.tenant == person.c.tenant, identity.c.person_id == person.c.id)
        query = query.where(exists().where(*same, *wanted))
    return query


async def _read(connection: AsyncConnection, tenant: str, person_id: str) -> StoredPerson:
    query = select(*_COLUMNS).where(person.c.tenant == tenant, person.c.id == person_id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound("There is no user with this id.")
    return _stored(row, (await identities_of(connection, tenant, [person_id])).get(person_id, []))


def _stored(row: Any, identities: Sequence[StoredIdentity]) -> StoredPerson:
    profile = Profile(row.id, row.name, row.locale, row.time_zone, row.attributes)
    return StoredPerson(profile, row.state, row.created_at, row.updated_at, identities)
