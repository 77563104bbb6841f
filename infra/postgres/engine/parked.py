"""What waits because its account was stopped, and is to go on.

A step that was put off for that names its own account among those it has `tried` (`domain.work_row`, written by
`activities.handing_over.decisions`): nothing else does, so the mark needs no column.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

import asyncpg

from infra.postgres.engine.locks import Connection, lock_notifications, retried

PAGE = 500
_FIRST = UUID(int=0)

_PAGE = """
SELECT DISTINCT notification_id FROM (
    SELECT notification_id FROM work
    WHERE notification_id > $2 AND account = $1 AND account = ANY (tried) AND state = 0 AND due_at > now()
    ORDER BY notification_id LIMIT $3) w ORDER BY 1"""

_WAKE = """
UPDATE work SET due_at = now(), cohort = NULL
WHERE notification_id = ANY ($2::uuid[]) AND account = $1 AND account = ANY (tried) AND state = 0 AND due_at > now()"""


class ParkedRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def wake(self, account: str) -> int:
        """Make due now what waits over this account; returns how many steps. One walk over `work`, in pages."""
        woken, after = 0, _FIRST
        while ids := [row["notification_id"] for row in await self._pool.fetch(_PAGE, account, after, PAGE)]:
            woken += await retried(self._pool, partial(_wake, account=account, ids=ids))
            after = ids[-1]
        return woken


async def _wake(connection: Connection, *, account: str, ids: list[UUID]) -> int:
    await lock_notifications(connection, ids)
    status: str = await connection.execute(_WAKE, account, ids)
    return int(status.split()[-1])
