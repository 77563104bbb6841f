"""Categories: what a notification is about, and the route it takes where it names no channels itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.channels import Channel
from domain.errors import Conflict, NotFound
from domain.states import Strategy
from domain.windows import Window
from infra.postgres.tables import category
from infra.postgres.tables import tenant as tenant_table
from infra.postgres.tenants.windows import decode_window, encode_window

MOST_CATEGORIES = 1000
"""In one tenant: the accept path keeps them all in memory."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the notifications of a category go."""

    channels: tuple[Channel, ...]
    strategy: Strategy
    fallback_after: timedelta | None = None
    """After this long without a receipt the next channel is opened; None: on failure only."""
    window: Window | None = None
    """Of what is in the low lane and names none."""


@dataclass(frozen=True, slots=True)
class Routes:
    """All that accept has to know of a tenant's ways."""

    by_category: Mapping[str, Route]
    window: Window | None = None
    """Of the low lane, where no category says otherwise."""


@dataclass(frozen=True, slots=True)
class StoredCategory:
    name: str
    route: Route
    mandatory: bool
    created_at: datetime
    updated_at: datetime


_COLUMNS = (
    category.c.name, category.c.channels, category.c.strategy, category.c.fallback_after, category.c.mandatory,
    category.c.created_at, category.c.updated_at, category.c.send_window,
)  # fmt: skip
_KNOWN = frozenset(Channel)


class CategoryRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(
        self, connection: AsyncConnection, tenant: str, name: str, *, route: Route, mandatory: bool
    ) -> StoredCategory:
        """In the caller's transaction. Raises Conflict (`category_exists`, `category_limit`)."""
        count = select(func.count()).select_from(category).where(category.c.tenant == tenant)
        if (await connection.execute(count)).scalar_one() >= MOST_CATEGORIES:
            raise Conflict(f"A tenant has at most {MOST_CATEGORIES} categories.", code="category_limit")
        new = insert(category).values(
            tenant=tenant,
            name=name,
            channels=list(route.channels),
            strategy=route.strategy,
            fallback_after=route.fallback_after,
            mandatory=mandatory,
            send_window=None if route.window is None else encode_window(route.window),
        )
        row = (await connection.execute(new.on_conflict_do_nothing().returning(*_COLUMNS))).first()
        if row is None:
            raise Conflict("A category of this name exists.", code="category_exists")
        return _stored(row)

    async def get(self, tenant: str, name: str) -> StoredCategory:
        """Raises NotFound."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(*_COLUMNS).where(*_is(tenant, name)))).first()
        return _found(row)

    async def listed(self, tenant: str, *, after: str, limit: int) -> list[StoredCategory]:
        """By name, from the first behind `after`."""
        query = (
            select(*_COLUMNS)
            .where(category.c.tenant == tenant, category.c.name > after)
            .order_by(category.c.name)
            .limit(limit)
        )
        async with self._engine.connect() as connection:
            return [_stored(row) for row in await connection.execute(query)]

    async def change(self, tenant: str, name: str, *, changes: Mapping[str, Any]) -> StoredCategory:
        """`changes` are columns. Raises NotFound."""
        statement = update(category).where(*_is(tenant, name)).values(**changes, updated_at=func.now())
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement.returning(*_COLUMNS))).first()
        return _found(row)

    async def remove(self, tenant: str, name: str) -> None:
        """What was accepted keeps its route. Raises NotFound."""
        async with self._engine.begin() as connection:
            row = (await connection.execute(delete(category).where(*_is(tenant, name)).returning(category.c.name))).first()
        if row is None:
            raise NotFound("There is no category of this name.")

    async def routes(self, tenant: str) -> Routes:
        """All of a tenant's routes, and its own window, which comes with each row and once where there is no category."""
        columns = (tenant_table.c.send_window.label("everywhere"), *_COLUMNS[:4], category.c.send_window)
        both = tenant_table.outerjoin(category, category.c.tenant == tenant_table.c.id)
        query = select(*columns).select_from(both).where(tenant_table.c.id == tenant)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        found = {row.name: _route(row) for row in rows if row.name is not None}
        return Routes(found, decode_window(rows[0].everywhere) if rows else None)


def _is(tenant: str, name: str) -> tuple[Any, ...]:
    return (category.c.tenant == tenant, category.c.name == name)


def _found(row: Any) -> StoredCategory:
    if row is None:
        raise NotFound("There is no category of this name.")
    return _stored(row)


def _route(row: Any) -> Route:
    """Channels that this version does not know (after a roll-back) are passed over."""
    return Route(
        tuple(Channel(name) for name in row.channels if name in _KNOWN), Strategy(row.strategy), row.fallback_after,
        decode_window(row.send_window),
    )  # fmt: skip


def _stored(row: Any) -> StoredCategory:
    return StoredCategory(row.name, _route(row), row.mandatory, row.created_at, row.updated_at)
