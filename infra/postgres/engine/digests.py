"""Digests after their accept: closed, rendered from, left, handed on, ended.

`notification.digest` is the carrier that a notification travels with; the carrier names itself. A row of `digest` says that
its carrier still collects. Whoever changes what a digest holds has that row's lock: an accept that adds to it, the close,
which deletes it, and whoever takes something out. So what an accept was told is collected is in the digest when it closes,
and what comes after the close finds no row and opens the next.

Order of locks: the carrier's notification, its items by id, the digest's row. Accepts and closes take the last alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from domain.digests import MOST_ITEM_BYTES, MOST_ITEMS
from domain.states import Outcome, Reason, Status
from domain.timeline import EventType
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

_LOCK_OPEN = "SELECT carrier FROM digest WHERE carrier = ANY ($1::uuid[]) ORDER BY slot FOR UPDATE"

_CLOSE = "DELETE FROM digest WHERE carrier = ANY ($1::uuid[])"

_SIZES = "SELECT digest, count(*) AS items FROM notification WHERE digest = ANY ($1::uuid[]) GROUP BY 1"

_ITEMS = """
SELECT data, count FROM (
    SELECT i.id, i.data, sum(octet_length(i.data::text)) OVER (ORDER BY i.id) AS bytes,
           (SELECT count(*) FROM notification WHERE digest = $1) AS count
    FROM (SELECT id, data FROM notification WHERE digest = $1 ORDER BY id LIMIT $2) i) x
WHERE bytes IS NULL OR bytes <= $3 ORDER BY id"""

_LEAVE = "UPDATE notification SET digest = NULL WHERE id = $1"

_LOCK_ITEMS = "SELECT id FROM notification WHERE digest = $1 AND id <> $1 ORDER BY id FOR UPDATE"

_OLDEST = "SELECT id FROM notification WHERE digest = $1 AND id <> $1 ORDER BY id LIMIT 1"

_TOUCHED = """
SELECT EXISTS (SELECT FROM work WHERE notification_id = $1)
    OR EXISTS (SELECT FROM delivery WHERE notification_id = $1 AND class IS NOT NULL)"""

_MOVE = "UPDATE notification SET digest = $2 WHERE digest = $1 AND id <> $1 RETURNING id"

_NEXT_CARRIER = "UPDATE digest SET carrier = $2 WHERE carrier = $1"

_CARRIES = """
UPDATE notification SET status = CASE WHEN send_at > now() THEN 'scheduled' ELSE 'accepted' END WHERE id = $1"""

_PLAN = """
INSERT INTO work (notification_id, n, tenant, lane, due_at, expires_at, version)
SELECT id, 0, tenant, lane, greatest(send_at, now()), expires_at, version FROM notification WHERE id = $1"""

_SHARE = """
UPDATE notification i SET status = e.status, reason = e.reason, partial = e.partial, final = e.final,
       finished_at = CASE WHEN e.final THEN coalesce(i.finished_at, now()) END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bool[], $5::bool[]) e(carrier, status, reason, partial, final)
WHERE i.digest = e.carrier AND i.id <> e.carrier"""

_END_ITEMS = """
UPDATE notification SET status = $4, reason = $5, final = true, finished_at = now(), digest = NULL
WHERE id = ANY ($3) AND id BETWEEN $1 AND $2 AND status = $6 AND NOT final RETURNING id"""


@dataclass(frozen=True, slots=True)
class Items:
    """What a digest's template gets."""

    data: Sequence[str | None]
    """JSON of each, oldest first, at most `MOST_ITEMS` and `MOST_ITEM_BYTES`."""
    count: int


class DigestRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def items(self, carrier: UUID) -> Items:
        """What it carries; nothing where it was sent by itself."""
        rows = await self._pool.fetch(_ITEMS, carrier, MOST_ITEMS, MOST_ITEM_BYTES)
        return Items([row["data"] for row in rows], rows[0]["count"] if rows else 0)


async def close_digests(pool: asyncpg.Pool, carriers: Sequence[UUID]) -> None:
    """What comes from now on opens the next. Waits for accepts that are adding to them. Safe to repeat: once closed, a
    digest stays so."""

    async def unit(connection: Connection) -> None:
        closing = [row["carrier"] for row in await connection.fetch(_LOCK_OPEN, carriers)]
        if not closing:
            return
        await connection.execute(_CLOSE, closing)
        sizes = await connection.fetch(_SIZES, closing)
        closed = [(row["digest"], TimelineEvent(EventType.DIGEST_CLOSED, {"items": row["items"]})) for row in sizes]
        await write_events(connection, [Entry(carrier, 0, event) for carrier, event in closed])

    await retried(pool, unit)


async def is_open(connection: Connection, carrier: UUID) -> bool:
    """Whether it still collects; it then cannot close before the caller's transaction ends."""
    return bool(await connection.fetch(_LOCK_OPEN, [carrier]))


async def leave_digest(connection: Connection, notification_id: UUID, *, digest: UUID) -> bool:
    """Take it out of its digest; False where it is too late for that. The caller holds the notification's lock, and has
    taken back its open steps. What a carrier has collected goes on with the oldest of the others."""
    if digest != notification_id:
        if not await is_open(connection, digest):
            return False
    elif await connection.fetchval(_TOUCHED, notification_id):
        return False
    else:
        await _hand_on(connection, notification_id)
    await connection.execute(_LEAVE, notification_id)
    return True


async def _hand_on(connection: Connection, carrier: UUID) -> None:
    """Nothing of the carrier was handed over and nothing will be: the oldest of the others takes its place."""
    await connection.fetch(_LOCK_ITEMS, carrier)
    await connection.fetch(_LOCK_OPEN, [carrier])
    following: UUID | None = await connection.fetchval(_OLDEST, carrier)
    if following is None:
        await connection.execute(_CLOSE, [carrier])
        return
    moved = [row["id"] for row in await connection.fetch(_MOVE, carrier, following)]
    await connection.execute(_NEXT_CARRIER, carrier, following)
    await connection.execute(_CARRIES, following)
    await connection.execute(_PLAN, following)
    detail = {"digest": str(following)}
    await write_events(connection, [Entry(one, 0, TimelineEvent(EventType.COLLECTED, detail)) for one in moved])


async def share_ends(connection: Connection, ends: Mapping[UUID, Outcome]) -> None:
    """What a carrier's end is, is the end of all that it carried. The caller holds the carriers' locks."""
    carriers = sorted(ends)
    if carriers:
        await connection.execute(
            _SHARE, carriers, [ends[i].status for i in carriers], [ends[i].reason for i in carriers],
            [ends[i].partial for i in carriers], [ends[i].final for i in carriers],
        )  # fmt: skip


async def cancel_collected(connection: Connection, ids: Sequence[UUID]) -> int:
    """Those of `ids` that others carry end cancelled; returns how many. The caller holds their locks."""
    ends = (Status.CANCELLED, Reason.CANCELLED_BY_REQUEST, Status.COLLECTED)
    return len(await connection.fetch(_END_ITEMS, min(ids), max(ids), ids, *ends))
