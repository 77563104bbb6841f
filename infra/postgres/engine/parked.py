"""What waits because no account took it, and is to go on when one does.

A step that was put off because its account was stopped names that one among those it has `tried` (`domain.work_row`,
written by `activities.handing_over.decisions`); one that was put off because no account was to be called has
`TAKEN_BY_NOBODY` there (`account_queue`). Nothing else does, so the mark needs no column.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

import asyncpg

from domain.channels import Channel
from domain.work_row import TAKEN_BY_NOBODY
from infra.postgres.engine.locks import Connection, lock_notifications, retried

PAGE = 500
_FIRST = UUID(int=0)

_WAITS = f"""state = 0 AND due_at > now() AND NOT awaiting AND channel = $1 AND ($2::text IS NULL OR tenant = $2)
  AND (account = ANY (tried) OR '{TAKEN_BY_NOBODY}' = ANY (tried))"""

_PAGE = f"""
SELECT DISTINCT notification_id FROM (
    SELECT notification_id FROM work WHERE notification_id > $3 AND {_WAITS} ORDER BY notification_id LIMIT $4
) w ORDER BY 1"""

_WAKE = f"UPDATE work SET due_at = now(), cohort = NULL WHERE notification_id = ANY ($3::uuid[]) AND {_WAITS}"


class ParkedRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def wake(self, channel: Channel, *, tenant: str | None) -> int:
        """Make due now what waits for an account of this channel, of this tenant or of all; returns how many steps. One
        walk over `work`, in pages."""
        woken, after = 0, _FIRST
        while ids := [row["notification_id"] for row in await self._pool.fetch(_PAGE, channel, tenant, after, PAGE)]:
            woken += await retried(self._pool, partial(_wake, channel=channel, tenant=tenant, ids=ids))
            after = ids[-1]
        return woken


async def _wake(connection: Connection, *, channel: Channel, tenant: str | None, ids: list[UUID]) -> int:
    await lock_notifications(connection, ids)
    status: str = await connection.execute(_WAKE, channel, tenant, ids)
    return int(status.split()[-1])
