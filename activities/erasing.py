"""Erasures go on in the background of every API process until they are done: PostgreSQL alone is needed, no Temporal."""

from __future__ import annotations

import asyncio
import random
import time
from uuid import UUID

import structlog

from infra.postgres.errors import AWAY
from infra.postgres.users.erasing import Erasure, ErasureRepository

LOOK_EVERY_S = 2.0
ERASE_INLINE_S = 2.0
"""Seconds for which a request erases before it answers; the background does the rest."""

log = structlog.get_logger()


class Erasing:
    """Safe to run in several processes at once: each step locks its erasure's row."""

    def __init__(self, repository: ErasureRepository) -> None:
        self._repository = repository

    async def erase(self, tenant: str, person_id: str, *, requested_by: UUID | None) -> Erasure:
        """Begin an erasure, or go on with it, do what can be done at once, and return how far it is. Raises NotFound."""
        await self._repository.begin(tenant, person_id, requested_by=requested_by)
        found = await self._repository.read(tenant, person_id)
        if found.finished_at is not None:
            return found
        until_s = time.monotonic() + ERASE_INLINE_S
        while await self._repository.step(tenant, person_id) and time.monotonic() < until_s:
            pass
        return await self._repository.read(tenant, person_id)

    async def run_once(self) -> bool:
        """One pass over one erasure that is due. Returns whether there was one."""
        due = await self._repository.due()
        if due is None:
            return False
        going_on = True
        while going_on:
            going_on = await self._repository.step(*due)
        return True

    async def run_forever(self) -> None:
        while True:
            try:
                while await self.run_once():
                    pass
            except AWAY as error:
                log.warning("erasing.away", code=type(error).__name__)
            except Exception:
                log.exception("erasing.failed")  # the next turn must come, and others' erasures with it
            await asyncio.sleep(LOOK_EVERY_S * random.uniform(0.5, 1.5))
