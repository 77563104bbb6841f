"""The tenant's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import NotFound
from domain.windows import Window
from infra.postgres.tables import tenant
from infra.postgres.tenants.windows import decode_window


@dataclass(frozen=True, slots=True)
class StoredTenant:
    id: str
    name: str
    time_zone: str
    """IANA name; "" = UTC."""
    window: Window | None
    """Of the low lane, where neither the notification nor its category says."""


_COLUMNS = (tenant.c.id, tenant.c.name, tenant.c.time_zone, tenant.c.send_window)


class TenantRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, tenant_id: str) -> StoredTenant:
        """Raises NotFound."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(*_COLUMNS).where(tenant.c.id == tenant_id))).first()
        return _found(row)

    async def change(self, tenant_id: str, *, changes: Mapping[str, Any]) -> StoredTenant:
        """`changes` are columns. Raises NotFound."""
        statement = update(tenant).where(tenant.c.id == tenant_id).values(**changes).returning(*_COLUMNS)
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement)).first()
        return _found(row)


def _found(row: Any) -> StoredTenant:
    if row is None:
        raise NotFound("There is no such tenant.")
    return StoredTenant(row.id, row.name, row.time_zone, decode_window(row.send_window))
