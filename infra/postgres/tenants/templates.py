"""Templates and their versions. A version never changes; `template.published_version` says which one is in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Conflict, NotFound
from infra.postgres.tables import template, template_version


@dataclass(frozen=True, slots=True)
class VersionContent:
    """What makes a version."""

    variables: Mapping[str, Any]
    contents: Mapping[str, Any]
    example_data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredVersion:
    name: str
    category: str
    version: int
    content: VersionContent
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    name: str
    category: str
    latest_version: int
    published_version: int | None
    created_at: datetime
    updated_at: datetime


_SUMMARY = (
    template.c.name, template.c.category, template.c.latest_version, template.c.published_version, template.c.created_at,
    template.c.updated_at,
)  # fmt: skip
_VERSION = (
    template_version.c.name, template.c.category, template_version.c.version, template_version.c.variables,
    template_version.c.contents, template_version.c.example_data, template_version.c.created_at,
)  # fmt: skip
_JOIN = template_version.join(
    template, (template.c.tenant == template_version.c.tenant) & (template.c.name == template_version.c.name)
)


class TemplateRepository:
    """All SQL about templates. Archived ones are not found, but their versions stay: accepted notifications pin them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def begin(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction for the methods that create, so that callers can put more into it."""
        return self._engine.begin()

    async def create(
        self,
        connection: AsyncConnection,
        tenant: str,
        name: str,
        *,
        category: str,
        content: VersionContent,
        by: UUID | None,
    ) -> StoredVersion:
        """A new template with its first draft; an archived one of this name begins again, unpublished, with its next
        version. Raises Conflict `template_exists`.
        """
        again = {"archived_at": None, "published_version": None, "category": category, "updated_at": func.now()}
        statement = (
            upsert(template)
            .values(tenant=tenant, name=name, category=category, latest_version=0)
            .on_conflict_do_update(
                index_elements=[template.c.tenant, template.c.name], set_=again, where=template.c.archived_at.isnot(None)
            )
            .returning(template.c.name)
        )
        if (await connection.execute(statement)).first() is None:
            raise Conflict("A template of this name exists: add a version to it.", code="template_exists")
        return await self.add_version(connection, tenant, name, content=content, by=by)

    async def add_version(
        self, connection: AsyncConnection, tenant: str, name: str, *, content: VersionContent, by: UUID | None
    ) -> StoredVersion:
        """The next draft; two at once get two numbers, because the UPDATE locks the template. Raises NotFound."""
        row = (
            await connection.execute(
                update(template)
                .where(*_alive(tenant, name))
                .values(latest_version=template.c.latest_version + 1, updated_at=func.now())
                .returning(template.c.latest_version, template.c.category, template.c.updated_at)
            )
        ).first()
        if row is None:
            raise NotFound("There is no such template.")
        await connection.execute(
            insert(template_version).values(
                tenant=tenant, name=name, version=row.latest_version, variables=dict(content.variables),
                contents=dict(content.contents), example_data=dict(content.example_data), created_by=by,
            )
        )  # fmt: skip
        return StoredVersion(name, row.category, row.latest_version, content, row.updated_at)

    async def latest(self, connection: AsyncConnection, tenant: str, name: str) -> StoredVersion:
        """The newest version, published or not. Raises NotFound."""
        query = (
            select(*_VERSION)
            .select_from(_JOIN)
            .where(*_alive(tenant, name), template_version.c.version == template.c.latest_version)
        )
        row = (await connection.execute(query)).first()
        if row is None:
            raise NotFound("There is no such template.")
        return _version(row)

    async def listed(self, tenant: str, *, after: str, limit: int, category: str | None) -> list[StoredTemplate]:
        """By name, from the first behind `after`."""
        query = (
            select(*_SUMMARY)
            .where(template.c.tenant == tenant, template.c.name > after, template.c.archived_at.is_(None))
            .order_by(template.c.name)
            .limit(limit)
        )
        if category is not None:
            query = query.where(template.c.category == category)
        async with self._engine.connect() as connection:
            return [_template(row) for row in await connection.execute(query)]

    async def get(self, tenant: str, name: str, *, connection: AsyncConnection | None = None) -> StoredTemplate:
        """Within a transaction where `connection` is given. Raises NotFound."""
        query = select(*_SUMMARY).where(*_alive(tenant, name))
        if connection is not None:
            row = (await connection.execute(query)).first()
        else:
            async with self._engine.connect() as own:
                row = (await own.execute(query)).first()
        if row is None:
            raise NotFound("There is no such template.")
        return _template(row)

    async def versions(self, tenant: str, name: str, *, below: int, limit: int) -> list[StoredVersion]:
        """Newest first, those with a number below `below`."""
        query = (
            select(*_VERSION)
            .select_from(_JOIN)
            .where(*_alive(tenant, name), template_version.c.version < below)
            .order_by(template_version.c.version.desc())
            .limit(limit)
        )
        async with self._engine.connect() as connection:
            return [_version(row) for row in await connection.execute(query)]

    async def version(self, tenant: str, name: str, version: int) -> StoredVersion:
        """Any version, of an archived template too. Raises NotFound."""
        query = (
            select(*_VERSION)
            .select_from(_JOIN)
            .where(
                template_version.c.tenant == tenant, template_version.c.name == name, template_version.c.version == version
            )
        )
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise NotFound("There is no such version of this template.")
        return _version(row)

    async def published_version(self, tenant: str, name: str) -> int | None:
        """The number of the version in force; None where there is no such template, or it was never published."""
        query = select(template.c.published_version).where(*_alive(tenant, name))
        async with self._engine.connect() as connection:
            number: int | None = (await connection.execute(query)).scalar()
        return number

    async def publish(self, tenant: str, name: str, version: int) -> StoredTemplate:
        """Put a version in force. Raises NotFound."""
        statement = (
            update(template)
            .where(*_alive(tenant, name))
            .values(published_version=version, updated_at=func.now())
            .returning(*_SUMMARY)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement)).first()
        if row is None:
            raise NotFound("There is no such template.")
        return _template(row)

    async def archive(self, tenant: str, name: str) -> None:
        """Take it out of use; its versions stay. Raises NotFound."""
        statement = update(template).where(*_alive(tenant, name)).values(archived_at=func.now(), updated_at=func.now())
        async with self._engine.begin() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                raise NotFound("There is no such template.")


def _alive(tenant: str, name: str) -> Sequence[Any]:
    return (template.c.tenant == tenant, template.c.name == name, template.c.archived_at.is_(None))


def _template(row: Any) -> StoredTemplate:
    return StoredTemplate(row.name, row.category, row.latest_version, row.published_version, row.created_at, row.updated_at)


def _version(row: Any) -> StoredVersion:
    content = VersionContent(row.variables, row.contents, row.example_data)
    return StoredVersion(row.name, row.category, row.version, content, row.created_at)
