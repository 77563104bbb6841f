"""New tries of what ended undelivered: chosen by a list, locked, and made as new notifications that name the old."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import asyncpg

from domain.timeline import EventType
from infra.postgres.accept.accepting import CHUNK, PLAIN, Key, Row, id_of, keep_key
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events
from infra.postgres.lists.pages import Filters, Page, Position, page

_LOCK = """
SELECT n.id, n.status FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT id, status FROM notification WHERE id = x.id AND deleted_at IS NULL OFFSET 0 FOR UPDATE) n ON true"""

_RESENT = """
SELECT x.id FROM unnest($1::uuid[]) x(id)
WHERE EXISTS (SELECT FROM event e WHERE e.notification_id = x.id AND e.type = 'resent' OFFSET 0)"""

_JUDGED = """
n.id, n.tenant, n.user_id, n.to_address, n.status, n.final, n.reason, n.template, n.options,
CASE WHEN n.content IS NOT NULL THEN '' END AS content"""

_ORIGINS = """
UPDATE notification n SET origin = o.origin FROM unnest($3::uuid[], $4::uuid[]) o(id, origin)
WHERE n.id = o.id AND n.id = ANY ($3) AND n.id BETWEEN $1 AND $2"""

_ANSWER = "UPDATE idempotency SET answer = $5 WHERE tenant = $1 AND app = $2 AND route = $3 AND key = $4"


class RetryRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def candidates(self, tenant: str, *, filters: Filters, limit: int, position: Position | None) -> Page:
        """Whole rows, newest first, of which no newer notification was made."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            return await page(
                connection, tenant, filters=filters, limit=limit, position=position, columns="n.*, n.status AS shown"
            )

    async def counted(self, tenant: str, *, filters: Filters, limit: int, position: Position | None) -> Page:
        """The same, of each row only what says whether it can be tried anew."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            return await page(connection, tenant, filters=filters, limit=limit, position=position, columns=_JUDGED)

    async def was_retried(self, notification_id: UUID) -> bool:
        """A newer one was made from it."""
        return await self._pool.fetchval(_RESENT, [notification_id]) is not None

    async def store(
        self, rows: Mapping[UUID, Row], *, states: frozenset[str], key: Key | None, answer: Callable[[set[UUID]], bytes]
    ) -> set[UUID] | None:
        """Store the new one of each old that still has one of `states` and was not made anew meanwhile; returns these olds.
        `answer` of them is what a repetition with the key gets. None when the key is taken, and then nothing is stored."""

        async def unit(connection: Connection) -> set[UUID] | None:
            if key is not None and not await keep_key(connection, key):
                return None
            ids = sorted(rows)
            locked = await connection.fetch(_LOCK, ids)
            known = {row["id"] for row in locked if row["status"] in states}
            again = {row["id"] for row in await connection.fetch(_RESENT, ids)}
            chosen = [one for one in ids if one in known and one not in again]
            for start in range(0, len(chosen), CHUNK):
                await _make(connection, chosen[start : start + CHUNK], rows)
            if key is not None:
                await connection.execute(_ANSWER, key.tenant, key.app, key.route, key.key, answer(set(chosen)))
            return set(chosen)

        return await retried(self._pool, unit)


async def _make(connection: Connection, olds: Sequence[UUID], rows: Mapping[UUID, Row]) -> None:
    made = [rows[old] for old in olds]
    await connection.fetch(PLAIN, made)
    ids = [id_of(row) for row in made]
    await connection.execute(_ORIGINS, min(ids), max(ids), ids, list(olds))
    again = [TimelineEvent(EventType.RESENT, {"as": str(one)}) for one in ids]
    await write_events(connection, [Entry(old, 0, event) for old, event in zip(olds, again, strict=True)])
