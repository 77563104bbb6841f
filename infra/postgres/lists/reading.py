"""One notification as it is read: by id with everything that happened, from the primary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from domain.health import Circuit
from domain.refusal import PROBLEM
from domain.timeline import EventType, LeftFor
from infra.postgres.lists.ways import FAILED_CHANNELS, IS_TEST, SHOWN
from infra.postgres.tenants.account_health import ALIVE

_ONE = f"""
SELECT n.*, {SHOWN} AS shown, {IS_TEST}, {FAILED_CHANNELS}
FROM notification n WHERE n.id = $1 AND n.tenant = $2 AND n.deleted_at IS NULL"""

_HELD_UP = f"""CASE
    WHEN w.state IS DISTINCT FROM 0 OR w.awaiting THEN NULL
    WHEN EXISTS (SELECT FROM provider_account WHERE id = w.account AND paused_at IS NOT NULL)
    THEN '{LeftFor.ACCOUNT_PAUSED}'
    ELSE (SELECT CASE WHEN h.circuit <> '{Circuit.CLOSED}' THEN '{LeftFor.CIRCUIT_OPEN}' ELSE '{LeftFor.ACCOUNT_BROKEN}' END
          FROM account_health h JOIN worker p ON p.process = h.process
          WHERE h.account = w.account AND p.at > now() - $2::interval
            AND (h.circuit <> '{Circuit.CLOSED}' OR h.problem IS NOT NULL AND h.problem <> '{PROBLEM}')
          ORDER BY h.circuit = '{Circuit.CLOSED}' LIMIT 1) END"""
"""What keeps the account of an open step from taking it, as worker processes that live have written of themselves."""

_DELIVERIES = f"""
SELECT coalesce(d.n, w.n) AS n, coalesce(d.channel, w.channel) AS channel, d.provider,
       coalesce(d.account, w.account) AS account, coalesce(d.address, w.address) AS address, d.status,
       d.reason, d.class, d.code, d.provider_id, d.sent_at, d.delivered_at, d.read_at, w.state AS step_state, w.due_at,
       (SELECT count(*) FROM event e
        WHERE e.notification_id = $1 AND e.n = coalesce(d.n, w.n) AND e.type = '{EventType.ATTEMPT}') AS attempts,
       {_HELD_UP} AS held_up_by
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
            deliveries = await connection.fetch(_DELIVERIES, notification_id, ALIVE)
            return Details(row, deliveries, await connection.fetch(_WORKFLOWS, notification_id))

    async def events(self, tenant: str, *, notification_id: UUID) -> tuple[asyncpg.Record, list[Any]] | None:
        """The notification's row and its events in order; None when this tenant has no such notification."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(_ONE, notification_id, tenant)
            if row is None:
                return None
            return row, await connection.fetch(_EVENTS, notification_id)
