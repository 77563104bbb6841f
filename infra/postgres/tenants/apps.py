"""Apps: the modules of a company that send through its tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Conflict, NotFound
from infra.postgres.tables import app


@dataclass(frozen=True, slots=True)
class StoredApp:
    id: str
    name: str
    created_at: datetime


_COLUMNS = (app.c.id, app.c.name, app.c.created_at)


class AppRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, connection: AsyncConnection, tenant: str, *, app_id: str, name: str) -> StoredApp:
        """In the caller's transaction. Raises Conflict `app_exists`."""
        new = insert(app).values(tenant=tenant, id=app_id, name=name).on_conflict_do_nothing().returning(*_COLUMNS)
        row = (await connection.execute(new)).first()
        if row is None:
            raise Conflict("An app with this id exists.", code="app_exists")
        return StoredApp(row.id, row.name, row.created_at)

    async def get(self, tenant: str, app_id: str) -> StoredApp:
        """Raises NotFound."""
        query = select(*_COLUMNS).where(app.c.tenant == tenant, app.c.id == app_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise NotFound("There is no app with this id.")
        return StoredApp(row.id, row.name, row.created_at)

    async def listed(self, tenant: str, *, after: str, limit: int) -> list[StoredApp]:
        """By id, from the first behind `after`."""
        query = select(*_COLUMNS).where(app.c.tenant == tenant, app.c.id > after).order_by(app.c.id).limit(limit)
        async with self._engine.connect() as connection:
            return [StoredApp(row.id, row.name, row.created_at) for row in await connection.execute(query)]
