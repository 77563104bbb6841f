"""What of a cohort is due over each account, put off or moved as a whole: no row of it is claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from domain.timeline import EventType
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

_ACCOUNTS = "SELECT DISTINCT account FROM work WHERE cohort = $1 AND n > 0 AND state = 0 AND due_at <= now()"

_TENANTS = """
SELECT DISTINCT tenant FROM work WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now()"""

_DUE = """
SELECT count(*) FROM (SELECT FROM work WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now()
                      LIMIT $3) w"""

_DUE_ROWS = """
WITH s AS MATERIALIZED (
    SELECT ctid AS tid, notification_id, n FROM work
    WHERE cohort = $1 AND account = $3 AND n > 0 AND state = 0 AND due_at <= now()
      AND ($4::text[] IS NULL OR tenant = ANY ($4)) AND EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)
    ORDER BY notification_id FOR UPDATE SKIP LOCKED
)"""

_PARK = (
    _DUE_ROWS
    + """,
p AS MATERIALIZED (
    SELECT tid, now() + $5::interval + $6::interval * (row_number() OVER (ORDER BY notification_id) - 1) AS due FROM s
)
UPDATE work w SET due_at = least(p.due, w.expires_at) FROM p WHERE w.ctid = p.tid AND w.state = 0"""
)
"""Each to the moment when its turn comes; all at the same moment would only be parked again."""

_MOVE = (
    _DUE_ROWS
    + """
UPDATE work SET account = $5 WHERE ctid = ANY (ARRAY(SELECT tid FROM s)) AND state = 0 RETURNING notification_id, n"""
)


class AccountQueue:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def accounts(self, cohort: UUID) -> list[str]:
        """Accounts over which a row of the cohort is due now."""
        return [row["account"] for row in await self._pool.fetch(_ACCOUNTS, cohort)]

    async def tenants(self, cohort: UUID, *, account: str) -> list[str]:
        """Whose rows of the cohort are due over this account."""
        return [row["tenant"] for row in await self._pool.fetch(_TENANTS, cohort, account)]

    async def due(self, cohort: UUID, *, account: str, limit: int) -> int:
        """How many rows are due over this account, counted up to `limit`."""
        count: int = await self._pool.fetchval(_DUE, cohort, account, limit)
        return count

    async def park(
        self,
        cohort: UUID,
        *,
        epoch: int,
        account: str,
        wait: timedelta,
        spacing: timedelta,
        tenants: Sequence[str] | None = None,
    ) -> None:
        """Put off what is due over this account: the first by `wait`, each further one by `spacing` more. Of these tenants;
        None: of all."""
        arguments = (cohort, epoch, account, tenants, wait, spacing)
        await retried(self._pool, lambda connection: connection.execute(_PARK, *arguments))

    async def move(
        self,
        cohort: UUID,
        *,
        epoch: int,
        account: str,
        to: str,
        detail: Mapping[str, Any],
        tenants: Sequence[str] | None = None,
    ) -> None:
        """What is due over this account goes over another, which these tenants may use, and the timeline says why
        (`detail`)."""

        async def unit(connection: Connection) -> None:
            moved = await connection.fetch(_MOVE, cohort, epoch, account, tenants, to)
            await write_events(connection, [
                Entry(row["notification_id"], row["n"], TimelineEvent(EventType.FAILOVER, dict(detail)), cohort=cohort,
                      epoch=epoch)
                for row in moved
            ])  # fmt: skip

        await retried(self._pool, unit)
