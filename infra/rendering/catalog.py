"""The templates of this process: the accept path asks for what is published, the workers for pinned versions.

Versions never change, so a compiled one is kept until others push it out. Which version is published is asked again every
`FRESH_S`: a publish shows in every process within that time, and at once in the one that did it (`forget`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from domain.clock import Clock
from infra.clock import SYSTEM_CLOCK
from infra.postgres.database import Database
from infra.postgres.deadline import without_deadline
from infra.postgres.tenants.templates import StoredVersion, TemplateRepository
from infra.rendering.template import PublishedTemplate

FRESH_S = 2.0
MAX_VERSIONS = 2048
MAX_PUBLISHED = 8192

K = TypeVar("K")
V = TypeVar("V")


class _Shared(Generic[K, V]):
    """Callers that ask for the same key at the same time share one load; a caller that gives up does not stop it."""

    def __init__(self, load: Callable[[K], Awaitable[V]]) -> None:
        self._load = load
        self._running: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = without_deadline(self._run(key))
            task.add_done_callback(_retrieved)
        return await asyncio.shield(task)

    def forget(self, key: K) -> None:
        """The next caller loads anew, whatever is under way."""
        self._running.pop(key, None)

    def current(self, key: K) -> bool:
        """True within the load that callers of now would share."""
        return self._running.get(key) is asyncio.current_task()

    async def _run(self, key: K) -> V:
        try:
            return await self._load(key)
        finally:
            if self.current(key):
                del self._running[key]


def _retrieved(task: asyncio.Task[V]) -> None:
    """Every waiter may have gone; its error then is nobody's."""
    if not task.cancelled():
        task.exception()


class TemplateCatalog:
    """Compiled templates by tenant. One instance a process, used on its event loop."""

    def __init__(self, database: Database, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._monotonic_s = clock.monotonic_s
        self._repository = TemplateRepository(database.engine)
        self._versions: OrderedDict[tuple[str, str, int], PublishedTemplate] = OrderedDict()
        self._published: dict[tuple[str, str], tuple[float, PublishedTemplate]] = {}
        self._loads = _Shared(self._load_version)
        self._lookups = _Shared(self._look_up)

    def published_cached(self, tenant: str, name: str) -> PublishedTemplate | None:
        """What `published` would answer without asking the database; None where it would have to ask."""
        entry = self._published.get((tenant, name))
        return entry[1] if entry is not None and entry[0] > self._monotonic_s() else None

    async def published(self, tenant: str, name: str) -> PublishedTemplate | None:
        """The version in force; None where there is no such template or it was never published."""
        return self.published_cached(tenant, name) or await self._lookups.get((tenant, name))

    async def version(self, tenant: str, name: str, version: int) -> PublishedTemplate:
        """A version, published or not. Raises NotFound, or TemplateBroken where a draft does not compile."""
        key = (tenant, name, version)
        found = self._versions.get(key)
        if found is None:
            return await self._loads.get(key)
        self._versions.move_to_end(key)
        return found

    def forget(self, tenant: str, name: str) -> None:
        """After a publish, rollback or archive in this process: ask again next time."""
        self._published.pop((tenant, name), None)
        self._lookups.forget((tenant, name))

    async def _look_up(self, key: tuple[str, str]) -> PublishedTemplate | None:
        asked = self._monotonic_s()
        version = await self._repository.published_version(*key)
        if version is None:
            self._published.pop(key, None)
            return None
        template = await self.version(*key, version)
        if self._lookups.current(key):  # else a publish came in between, and this answer may be the one before it
            self._published.pop(key, None)
            while len(self._published) >= MAX_PUBLISHED:
                self._published.pop(next(iter(self._published)))
            self._published[key] = (asked + FRESH_S, template)
        return template

    async def _load_version(self, key: tuple[str, str, int]) -> PublishedTemplate:
        stored = await self._repository.version(*key)
        template = await asyncio.to_thread(compiled_blocking, stored)
        self._versions[key] = template
        while len(self._versions) > MAX_VERSIONS:
            self._versions.popitem(last=False)
        return template


def compiled_blocking(stored: StoredVersion) -> PublishedTemplate:
    """CPU-heavy: milliseconds for each block. Raises TemplateBroken."""
    return PublishedTemplate(
        stored.name,
        version=stored.version,
        category=stored.category,
        variables=stored.content.variables,
        contents=stored.content.contents,
        example_data=stored.content.example_data,
    )
