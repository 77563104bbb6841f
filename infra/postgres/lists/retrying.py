"""New tries of what ended undelivered: chosen by a list, locked, and made as new notifications that name the old."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import asyncpg

from domain.timeline import EventType
from infra.postgres.accept.accepting import CHUNK, PLAIN, Key, keep_answer, keep_key
from infra.postgres.accept.row import Row
from infra.postgres.accept.slots import pass_on_slots
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events
from infra.postgres.lists.pages import Filters, Page, Position, page
from infra.postgres.users.suppressions import digest_sql

_LOCK = """
SELECT n.id, n.status FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT id, status FROM notification WHERE id = x.id AND deleted_at IS NULL OFFSET 0 FOR UPDATE) n ON true"""

_RESENT = """
SELECT x.id FROM unnest($1::uuid[]) x(id)
WHERE EXISTS (SELECT FROM event e WHERE e.notification_id = x.id AND e.type = 'resent' OFFSET 0)"""

_JUDGED = """
n.id, n.tenant, n.user_id, n.to_channel, n.to_address, n.channels, n.status, n.final, n.reason, n.template, n.options,
CASE WHEN n.content IS NOT NULL THEN '' END AS content"""

_SUPPRESSED = f"""
WITH o AS MATERIALIZED (
    SELECT id, tenant, user_id, string_to_array(channels, ',') AS channels, to_channel, to_address
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
         o(id, tenant, user_id, channels, to_channel, to_address)),
a AS (
    SELECT id, tenant, to_channel AS channel, to_address AS address FROM o WHERE user_id IS NULL
    UNION ALL
    SELECT o.id, o.tenant, i.channel, i.address FROM o
    JOIN LATERAL (SELECT DISTINCT ON (channel) channel, address FROM identity
                  WHERE tenant = o.tenant AND person_id = o.user_id AND channel = ANY (o.channels)
                  ORDER BY channel, is_primary DESC, created_at, id) i ON true
    WHERE o.user_id IS NOT NULL)
SELECT a.id FROM a LEFT JOIN LATERAL (
    SELECT true AS suppressed FROM suppression
    WHERE tenant = a.tenant AND channel = a.channel
      AND address IN (a.address, {digest_sql(tenant="a.tenant", channel="a.channel", address="a.address")})
    LIMIT 1) s ON true
GROUP BY a.id HAVING bool_and(s.suppressed IS NOT NULL)"""
"""Of several addresses on a channel the one that a plan takes (`infra.postgres.engine.plans`)."""

_ORIGINS = """
UPDATE notification n SET origin = o.origin FROM unnest($3::uuid[], $4::uuid[]) o(id, origin)
WHERE n.id = o.id AND n.id = ANY ($3) AND n.id BETWEEN $1 AND $2"""


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

    async def suppressed(self, rows: Sequence[asyncpg.Record]) -> set[UUID]:
        """Those all of whose addresses are suppressed; a user's are those that a plan would take for the notification's
        channels."""
        if not rows:
            return set()
        columns = [
            [row["id"] for row in rows], [row["tenant"] for row in rows], [row["user_id"] for row in rows],
            [",".join(row["channels"]) for row in rows], [row["to_channel"] for row in rows],
            [row["to_address"] for row in rows],
        ]  # fmt: skip
        return {row["id"] for row in await self._pool.fetch(_SUPPRESSED, *columns)}

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
                await keep_answer(connection, key, answer(set(chosen)))
            return set(chosen)

        return await retried(self._pool, unit)


async def _make(connection: Connection, olds: Sequence[UUID], rows: Mapping[UUID, Row]) -> None:
    made = [rows[old] for old in olds]
    await connection.fetch(PLAIN, made)
    ids = [row.id for row in made]
    await connection.execute(_ORIGINS, min(ids), max(ids), ids, list(olds))
    await pass_on_slots(connection, dict(zip(olds, ids, strict=True)))
    again = [TimelineEvent(EventType.RESENT, {"as": str(one)}) for one in ids]
    await write_events(connection, [Entry(old, 0, event) for old, event in zip(olds, again, strict=True)])
