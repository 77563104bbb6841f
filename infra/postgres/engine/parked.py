"""What waits because no account took it, and is to go on when one does.

A step that was put off because its account was stopped names that one among those it has `tried` (`domain.work_row`,
written by `activities.handing_over.decisions`); one that was put off because no account was to be called has
`TAKEN_BY_NOBODY` there (`account_queue`). Nothing else does, so the mark needs no column, and what has tried nothing is in
no index for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import asyncpg

from domain.channels import Channel
from domain.work_row import TAKEN_BY_NOBODY
from infra.postgres.engine.locks import Connection, HeldLately, lock_notifications, over_free

PAGE = 500
_FIRST = UUID(int=0)

_WAITS = f"""due_at > now() AND NOT awaiting AND ($2::text IS NULL OR tenant = $2)
  AND (account = ANY (tried) OR '{TAKEN_BY_NOBODY}' = ANY (tried))"""

_PAGE = f"""
SELECT notification_id, n, {_WAITS} AS waits FROM work
WHERE state = 0 AND tried <> '{{}}' AND (channel, notification_id, n) > ($1::text, $3::uuid, $4::smallint) AND channel <= $1
ORDER BY channel, notification_id, n LIMIT $5"""
"""The next of one channel that have tried something, whether they wait or not: a page ends after so many entries of its
index, also where nothing waits. Sorted and bounded so that no other index serves, whatever the statistics say."""

_WAKE = f"""
UPDATE work SET due_at = now(), cohort = NULL
WHERE notification_id = ANY ($3::uuid[]) AND state = 0 AND channel = $1 AND {_WAITS}"""


class ParkedRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._lately = HeldLately()

    async def wake(self, channel: Channel, *, tenant: str | None) -> int:
        """Make due now what waits for an account of this channel, of this tenant or of all; returns how many steps. One
        walk over what has tried something, in pages. What somebody keeps locked is left out, and looked at again in its
        time."""
        woken, after = 0, (_FIRST, 0)
        while rows := await self._pool.fetch(_PAGE, channel, tenant, *after, PAGE):
            if ids := list(dict.fromkeys(row["notification_id"] for row in rows if row["waits"])):
                counts, _ = await over_free(self._pool, ids, partial(_wake, channel, tenant), lately=self._lately)
                woken += sum(counts)
            after = rows[-1]["notification_id"], rows[-1]["n"]
        return woken


async def _wake(channel: Channel, tenant: str | None, connection: Connection, ids: Sequence[UUID]) -> int:
    await lock_notifications(connection, ids)
    status: str = await connection.execute(_WAKE, channel, tenant, ids)
    return int(status.split()[-1])
