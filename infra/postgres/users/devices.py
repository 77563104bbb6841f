"""Registrations of devices. A token belongs to one user of a tenant: who registers it last has it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.dml import ReturningInsert

from domain.devices import MOST_DEVICES, DeviceKind
from domain.errors import Conflict, Invalid, NotFound
from domain.ids import uuid7
from infra.postgres.tables import device, person
from infra.postgres.users.persons import LIVING

_COLUMNS = (
    device.c.id, device.c.kind, device.c.token, device.c["keys"], device.c.app, device.c.locale, device.c.state,
    device.c.created_at, device.c.last_seen_at,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewDevice:
    """What is registered. `token` is the endpoint and `keys` its two keys for web push."""

    kind: DeviceKind
    token: str
    keys: Mapping[str, str]
    app: str
    locale: str


@dataclass(frozen=True, slots=True)
class StoredDevice:
    id: UUID
    kind: str
    token: str
    app: str
    locale: str
    state: str
    created_at: datetime
    last_seen_at: datetime


class DeviceRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def listed(self, tenant: str, person_id: str) -> list[StoredDevice]:
        """All of one user, the last seen first. Raises NotFound."""
        query = (
            select(*_COLUMNS)
            .where(device.c.tenant == tenant, device.c.person_id == person_id)
            .order_by(device.c.last_seen_at.desc(), device.c.id)
        )
        async with self._engine.connect() as connection:
            await _state(connection, tenant, person_id, lock=False)
            return [_stored(row) for row in await connection.execute(query)]

    async def register(
        self, connection: AsyncConnection, tenant: str, person_id: str, *, new: NewDevice
    ) -> tuple[StoredDevice, bool]:
        """In the caller's transaction: the device, and whether this user did not have it before. Registered again it is
        seen now, active, with what is given. Raises NotFound, Conflict (erased), Invalid (too many)."""
        if await _state(connection, tenant, person_id, lock=True) not in LIVING:
            raise Conflict("This user was erased or merged into another and cannot be changed.")
        token_hash = hashlib.sha256(new.token.encode()).digest()
        own = device.c.tenant == tenant, device.c.person_id == person_id
        same = (device.c.kind == new.kind) & (device.c.token_hash == token_hash)
        count = (await connection.execute(select(func.count()).where(*own, ~same))).scalar_one()
        if count >= MOST_DEVICES:
            raise Invalid.field("", "too_many", f"A user has at most {MOST_DEVICES} devices: remove one first.")
        offered = uuid7()
        row = (await connection.execute(_upsert(offered, tenant, person_id, new=new, token_hash=token_hash))).one()
        return _stored(row), row.id == offered

    async def remove(self, tenant: str, person_id: str, device_id: UUID) -> None:
        """Raises NotFound."""
        statement = delete(device).where(
            device.c.tenant == tenant, device.c.person_id == person_id, device.c.id == device_id
        )
        async with self._engine.begin() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                raise NotFound("This user has no such device.")


def _upsert(offered: UUID, tenant: str, person_id: str, *, new: NewDevice, token_hash: bytes) -> ReturningInsert[Any]:
    """A token that another user had comes with a new id: the old one named somebody else's device."""
    statement = insert(device).values(
        id=offered, tenant=tenant, person_id=person_id, kind=new.kind, token_hash=token_hash, token=new.token,
        keys=dict(new.keys), app=new.app, locale=new.locale,
    )  # fmt: skip
    given = statement.excluded
    mine = device.c.person_id == given.person_id
    return statement.on_conflict_do_update(
        index_elements=[device.c.tenant, device.c.kind, device.c.token_hash],
        set_={
            "id": case((mine, device.c.id), else_=given.id),
            "created_at": case((mine, device.c.created_at), else_=func.now()),
            "person_id": given.person_id, "keys": given["keys"], "app": given.app, "locale": given.locale,
            "state": "active", "last_seen_at": func.now(),
        },
    ).returning(*_COLUMNS)  # fmt: skip


async def _state(connection: AsyncConnection, tenant: str, person_id: str, *, lock: bool) -> str:
    """The user's state; locks it against an erasure. Raises NotFound."""
    query = select(person.c.state).where(person.c.tenant == tenant, person.c.id == person_id)
    state: str | None = (await connection.execute(query.with_for_update() if lock else query)).scalar()
    if state is None:
        raise NotFound("There is no user with this id.")
    return state


def _stored(row: Any) -> StoredDevice:
    return StoredDevice(
        row.id, row.kind, row.token, row.app, row.locale, row.state, row.created_at, row.last_seen_at
    )  # fmt: skip
