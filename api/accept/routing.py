"""The categories' routes in the accept path: two dict look-ups, asked for again every moment."""

from __future__ import annotations

import asyncio

from domain.clock import Clock
from infra.clock import SYSTEM_CLOCK
from infra.postgres.deadline import without_deadline
from infra.postgres.tenants.categories import CategoryRepository, Routes

FRESH_S = 2.0
"""A changed route shows in every process within this time, and at once in the one that changed it (`forget`)."""
MOST_TENANTS = 4096


class CategoryRoutes:
    """One a process. Callers that ask while a load is under way share it."""

    def __init__(self, repository: CategoryRepository, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._repository = repository
        self._monotonic_s = clock.monotonic_s
        self._known: dict[str, tuple[float, Routes]] = {}
        self._loads: dict[str, asyncio.Task[Routes]] = {}

    def cached(self, tenant: str) -> Routes | None:
        """What `of` would answer without asking the database; None where it would have to ask."""
        entry = self._known.get(tenant)
        return entry[1] if entry is not None and entry[0] > self._monotonic_s() else None

    async def of(self, tenant: str) -> Routes:
        """All routes of this tenant, and the window of its low lane."""
        found = self.cached(tenant)
        if found is not None:
            return found
        task = self._loads.get(tenant)
        if task is None:
            task = self._loads[tenant] = without_deadline(self._load(tenant))
            task.add_done_callback(_retrieved)
        return await asyncio.shield(task)

    def forget(self, tenant: str) -> None:
        """After a change in this process: ask again, whatever is under way."""
        self._known.pop(tenant, None)
        self._loads.pop(tenant, None)

    async def _load(self, tenant: str) -> Routes:
        asked_s = self._monotonic_s()
        try:
            routes = await self._repository.routes(tenant)
        finally:
            current = self._loads.get(tenant) is asyncio.current_task()
            if current:
                del self._loads[tenant]
        if current:  # else a change came in between, and this may be what was before it
            if len(self._known) >= MOST_TENANTS:
                self._known.clear()
            self._known[tenant] = (asked_s + FRESH_S, routes)
        return routes


def _retrieved(task: asyncio.Task[Routes]) -> None:
    """Every waiter may have gone; its error then is nobody's."""
    if not task.cancelled():
        task.exception()
