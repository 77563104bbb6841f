"""Delete: a notification leaves the view and stays in the audit trail, its rows untouched."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import msgspec

from domain.errors import NotFound
from domain.ids import uuid7
from domain.timeline import EventType
from infra.postgres.engine.cancelling import CancelAnswer, CancelRepository
from infra.postgres.engine.locks import Connection, retried

_HIDE = """
UPDATE notification SET deleted_at = now() WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL RETURNING 1"""

_EVENT = "INSERT INTO event (notification_id, id, n, at, type, detail) VALUES ($1, $2, 0, now(), $3, $4)"


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
            detail = msgspec.json.encode({"answer": answer.result}).decode()
            await connection.execute(_EVENT, notification_id, uuid7(), EventType.DELETED, detail)

        await retried(self._pool, unit)
        return answer
