"""One notification as it is read: by id with everything that happened, from the primary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from infra.postgres.lists.ways import IS_TEST, SHOWN

_ONE = f"""
SELECT n.*, {SHOWN} AS shown, {IS_TEST} FROM notification n WHERE n.id = $1 AND n.tenant = $2 AND n.deleted_at IS NULL"""

_DELIVERIES = """
SELECT coalesce(d.n, w.n) AS n, coalesce(d.channel, w.channel) AS channel, d.provider,
       coalesce(d.account, w.account) AS account, coalesce(d.address, w.address) AS address, d.status,
       d.reason, d.class, d.code, d.attempts, d.provider_id, d.sent_at, d.delivered_at, d.read_at,
       w.state AS step_state, w.due_at, w.attempt AS step_attempt
FROM (SELECT * FROM delivery WHERE notification_id = $1) d
FULL JOIN (SELECT * FROM work WHERE notification_id = $1 AND n > 0) w ON w.n = d.n
ORDER BY 1"""

_WORKFLOWS = """
SELECT cohort, epoch, min(at) AS since FROM (
    SELECT cohort, epoch, at FROM event WHERE notification_id = $1 AND cohort IS NOT NULL AND epoch IS NOT NULL
    UNION ALL
    SELECT c.id, c.epoch, now() FROM work w JOIN cohort c ON c.id = w.cohort WHERE w.notification_id = $1
) x GROUP BY 1, 2 ORDER BY since"""

_EVENTS = "SELECT id, n, at, type, cohort, epoch, detail FROM event WHERE notification_id = $1 ORDER BY at, id"


@dataclass(frozen=True, slots=True)
class Details:
    """One notification and everything that hangs on it, as database rows."""

    row: asyncpg.Record
    deliveries: Sequence[asyncpg.Record]
    workflows: Sequence[asyncpg.Record]


class NotificationReader:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def one(self, tenant: str, *, notification_id: UUID) -> Details | None:
        """One snapshot of all of it, from the primary: people read what they have just written."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(_ONE, notification_id, tenant)
            if row is None:
                return None
            deliveries = await connection.fetch(_DELIVERIES, notification_id)
            return Details(row, deliveries, await connection.fetch(_WORKFLOWS, notification_id))

    async def events(self, tenant: str, *, notification_id: UUID) -> tuple[asyncpg.Record, list[Any]] | None:
        """The notification's row and its events in order; None when this tenant has no such notification."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(_ONE, notification_id, tenant)
            if row is None:
                return None
            return row, await connection.fetch(_EVENTS, notification_id)
