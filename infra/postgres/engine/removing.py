"""Delete: a notification leaves the view and stays in the audit trail, its rows untouched."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from domain.cancelling import CancelAnswer
from domain.errors import NotFound
from domain.timeline import EventType
from infra.postgres.engine.cancelling import CancelRepository
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import write_event

_HIDE = """
UPDATE notification SET deleted_at = now() WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL RETURNING 1"""


class RemoveRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._control = CancelRepository(pool)

    async def remove(self, tenant: str, *, notification_id: UUID) -> CancelAnswer:
        """Cancel what is pending, then hide it; returns what the cancellation achieved. Two transactions: between them it
        is cancelled and still shown, and deleting it again goes on from there. Raises NotFound."""
        answer = await self._control.cancel(tenant, notification_id=notification_id)

        async def unit(connection: Connection) -> None:
            if await connection.fetchval(_HIDE, notification_id, tenant) is None:
                raise NotFound("There is no notification with this id.")
            await write_event(connection, notification_id, EventType.DELETED, {"answer": answer.result})

        await retried(self._pool, unit)
        return answer
