"""The life of a template's versions: drafted, published, rolled back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import Conflict, FieldError, Invalid
from infra.postgres.database import Database
from infra.postgres.tenants.templates import StoredTemplate, StoredVersion, TemplateRepository, VersionContent
from infra.rendering.catalog import TemplateCatalog, compiled_blocking
from infra.rendering.errors import TemplateBroken
from infra.rendering.publishing import publish_errors_blocking
from infra.rendering.shape import shape_errors
from infra.rendering.template import PublishedTemplate

ROLLBACK_REACH = 20
"""How many older versions a rollback without a number tries."""


class TemplateDrafts:
    """What editors do. Compiling and rendering happen in a thread."""

    def __init__(self, database: Database, *, catalog: TemplateCatalog) -> None:
        self.repository = TemplateRepository(database.engine)
        self._catalog = catalog

    async def create(
        self,
        connection: AsyncConnection,
        tenant: str,
        name: str,
        *,
        category: str,
        content: VersionContent,
        by: UUID,
    ) -> StoredVersion:
        """Raises Invalid (shape), TemplateBroken (syntax, schema), Conflict `template_exists`."""
        await asyncio.to_thread(_require_sound_blocking, name, category, content)
        return await self.repository.create(connection, tenant, name, category=category, content=content, by=by)

    async def add_version(
        self,
        connection: AsyncConnection,
        tenant: str,
        name: str,
        *,
        contents: Mapping[str, Any],
        variables: Mapping[str, Any] | None,
        example_data: Mapping[str, Any] | None,
        by: UUID,
    ) -> StoredVersion:
        """None takes over what the latest version has. Raises NotFound, Invalid, TemplateBroken."""
        latest = await self.repository.latest(connection, tenant, name)
        content = VersionContent(
            latest.content.variables if variables is None else variables,
            contents,
            latest.content.example_data if example_data is None else example_data,
        )
        await asyncio.to_thread(_require_sound_blocking, name, latest.category, content)
        return await self.repository.add_version(connection, tenant, name, content=content, by=by)

    async def publish(self, tenant: str, name: str, *, version: int | None) -> StoredTemplate:
        """Put a version in force, the latest without a number. Raises NotFound, TemplateBroken with everything found."""
        stored = await self.repository.get(tenant, name)
        chosen = await self.repository.version(tenant, name, version or stored.latest_version)
        errors = await asyncio.to_thread(_publish_errors_blocking, chosen)
        if errors:
            raise TemplateBroken(errors)
        return await self._put_in_force(tenant, name, chosen.version)

    async def rollback(self, tenant: str, name: str, *, version: int | None) -> StoredTemplate:
        """Back to an older version; without a number, the next older one that can be published.

        Raises NotFound, TemplateBroken, Invalid (not older), Conflict where there is none to go back to.
        """
        stored = await self.repository.get(tenant, name)
        if stored.published_version is None:
            raise Conflict("Nothing of this template is published.", code="not_published")
        if version is not None:
            if version >= stored.published_version:
                message = f"must be older than the published version, {stored.published_version}"
                raise Invalid.field("/version", "out_of_range", message)
            return await self.publish(tenant, name, version=version)
        older = await self.repository.versions(tenant, name, below=stored.published_version, limit=ROLLBACK_REACH)
        for candidate in older:
            if not await asyncio.to_thread(_publish_errors_blocking, candidate):
                return await self._put_in_force(tenant, name, candidate.version)
        raise Conflict("There is no older version that can be published.", code="nothing_older")

    async def archive(self, tenant: str, name: str) -> None:
        """Raises NotFound."""
        await self.repository.archive(tenant, name)
        self._catalog.forget(tenant, name)

    async def _put_in_force(self, tenant: str, name: str, version: int) -> StoredTemplate:
        stored = await self.repository.publish(tenant, name, version)
        self._catalog.forget(tenant, name)
        return stored


def _require_sound_blocking(name: str, category: str, content: VersionContent) -> None:
    """A draft compiles, even if it cannot be published yet: who posts it is the one who can mend it."""
    errors = shape_errors(content.contents)
    if errors:
        raise Invalid(errors)
    PublishedTemplate(
        name, version=0, category=category, variables=content.variables, contents=content.contents,
        example_data=content.example_data,
    )  # fmt: skip


def _publish_errors_blocking(stored: StoredVersion) -> list[FieldError]:
    try:
        return publish_errors_blocking(compiled_blocking(stored))
    except TemplateBroken as broken:
        return list(broken.errors)
