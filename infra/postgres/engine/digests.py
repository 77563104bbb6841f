"""Digests after their accept: closed, rendered from, left, handed on, ended.

`notification.digest` is the carrier that a notification travels with; the carrier names itself. A row of `digest` says that
its carrier still collects. Whoever changes what a digest holds has that row's lock: an accept that adds to it, the close,
which deletes it, and whoever takes something out. So what an accept was told is collected is in the digest when it closes,
and what comes after the close finds no row and opens the next.

A carrier that ends cancelled or expired before anything of it may have arrived hands on to the oldest of the others. What
has expired by itself by then, or by the time at which a message is claimed, is in none.

Order of locks: the carrier's notification, its items by id, the digest's row. Accepts and closes take the last alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from domain.cohorts import CohortEpoch
from domain.digests import MOST_ITEM_BYTES, MOST_ITEMS
from domain.lanes import CLAIM_WINDOW
from domain.states import Outcome, Reason, Status
from domain.timeline import EventType, Stage
from domain.windows import PutOff
from infra.postgres.engine.locks import Connection, lock_notifications, over_free, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

_LOCK_OPEN = "SELECT carrier, until FROM digest WHERE carrier = ANY ($1::uuid[]) ORDER BY slot FOR UPDATE"

_CLOSE = "DELETE FROM digest WHERE carrier = ANY ($1::uuid[])"

_SIZES = "SELECT digest, count(*) AS items FROM notification WHERE digest = ANY ($1::uuid[]) GROUP BY 1"

_PUT_OFF = """
UPDATE work w SET due_at = x.until, cohort = NULL FROM unnest($3::uuid[], $4::timestamptz[]) x(id, until)
WHERE w.notification_id = x.id AND w.notification_id = ANY ($3) AND w.n = 0 AND w.state = 0 AND w.cohort = $1
  AND EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)
RETURNING w.notification_id"""

_UNTIL = """
UPDATE digest d SET until = x.until FROM unnest($1::uuid[], $2::timestamptz[]) x(id, until)
WHERE d.carrier = x.id AND d.carrier = ANY ($1)"""

_ITEMS = """
SELECT data, count FROM (
    SELECT i.id, i.data, sum(octet_length(i.data::text)) OVER (ORDER BY i.id) AS bytes,
           (SELECT count(*) FROM notification WHERE digest = $1 AND (id = $1 OR expires_at > $4)) AS count
    FROM (SELECT id, data FROM notification WHERE digest = $1 AND (id = $1 OR expires_at > $4) ORDER BY id LIMIT $2) i) x
WHERE bytes IS NULL OR bytes <= $3 ORDER BY id"""

_LATE = "SELECT EXISTS (SELECT FROM notification WHERE digest = $1 AND id <> $1 AND NOT final AND expires_at <= $2)"

_LOCK_CARRIER = "SELECT FROM notification WHERE id = $1 FOR UPDATE"

_END_LATE = """
UPDATE notification i SET status = $3, reason = $4, final = true, finished_at = now(), digest = NULL
WHERE digest = $1 AND id <> $1 AND NOT final AND expires_at <= $2
  AND NOT EXISTS (SELECT FROM work w WHERE w.notification_id = $1 AND w.n <> $5 AND w.state = 1
                  AND w.start_by - $6::interval < i.expires_at)
RETURNING id"""
"""A message that was claimed before an item's time ran out, and is in somebody's hands, has it."""

_LEAVE = "UPDATE notification SET digest = NULL WHERE id = $1"

_LOCK_ITEMS = "SELECT id FROM notification WHERE digest = $1 AND id <> $1 ORDER BY id FOR UPDATE"

_OLDEST = "SELECT id FROM notification WHERE digest = $1 AND id <> $1 AND NOT final ORDER BY id LIMIT 1"

_IN_HAND = "SELECT EXISTS (SELECT FROM work WHERE notification_id = $1 AND state = 1)"

_MAY_HAVE_ARRIVED = """
SELECT EXISTS (SELECT FROM delivery WHERE notification_id = $1
               AND (class IN ('OK', 'UNKNOWN') OR status IN ('sent', 'delivered', 'read', 'unknown')
                    OR lost IS NOT NULL))"""
"""Also an attempt before the last one (`infra.postgres.engine.lost_attempts`)."""

_MOVE = "UPDATE notification SET digest = $2 WHERE digest = $1 AND id <> $1 AND NOT final RETURNING id"

_NEXT_CARRIER = "UPDATE digest SET carrier = $2 WHERE carrier = $1"

_FREE = """
UPDATE digest SET carrier = NULL WHERE carrier = $1 AND until > now()
   AND (SELECT options->'digest'->>'first' FROM notification WHERE id = $1) = 'at_once'"""
"""The first of its window was sent at once: the window stands, and what follows is collected."""

_CARRIES = """
UPDATE notification SET status = CASE WHEN $2::timestamptz > now() THEN 'scheduled' ELSE 'accepted' END WHERE id = $1"""

_PLAN = """
INSERT INTO work (notification_id, n, tenant, lane, due_at, expires_at, version)
SELECT id, 0, tenant, lane, greatest($2::timestamptz, now()), expires_at, version FROM notification WHERE id = $1"""

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

    async def items(self, carrier: UUID, *, n: int, claimed_at: datetime) -> Items:
        """What the message of its step `n`, claimed then, says; nothing where it was sent by itself. An item whose time had
        run out is not in it, and ends so, unless it may have arrived with another message of this digest."""
        if await self._pool.fetchval(_LATE, carrier, claimed_at):
            await self._end_late(carrier, n=n, claimed_at=claimed_at)
        rows = await self._pool.fetch(_ITEMS, carrier, MOST_ITEMS, MOST_ITEM_BYTES, claimed_at)
        return Items([row["data"] for row in rows], rows[0]["count"] if rows else 0)

    async def _end_late(self, carrier: UUID, *, n: int, claimed_at: datetime) -> None:
        async def unit(connection: Connection) -> None:
            await connection.execute(_LOCK_CARRIER, carrier)
            await connection.fetch(_LOCK_ITEMS, carrier)
            if not await connection.fetchval(_MAY_HAVE_ARRIVED, carrier):
                await _end_late_items(connection, carrier, n=n, at=claimed_at)

        await retried(self._pool, unit)


async def put_off_digests(pool: asyncpg.Pool, waits: Mapping[UUID, PutOff], *, cohort: CohortEpoch) -> set[UUID]:
    """These carriers may not go yet: those whose digest is open leave this cohort, collect until then, and are planned
    again; returns them. Safe to repeat: what was moved or replaced is left alone."""

    async def unit(connection: Connection) -> set[UUID]:
        await lock_notifications(connection, sorted(waits))
        still = {row["carrier"] for row in await connection.fetch(_LOCK_OPEN, sorted(waits))}
        ids = sorted(still)
        if not ids:
            return set()
        times = [waits[i].until for i in ids]
        rows = await connection.fetch(_PUT_OFF, cohort.id, cohort.epoch, ids, times)
        moved = {row["notification_id"] for row in rows}
        ids = sorted(moved)
        await connection.execute(_UNTIL, ids, [waits[i].until for i in ids])
        told = [(i, {"reason": waits[i].because, "until": waits[i].until.isoformat()}) for i in ids]
        await write_events(connection, [Entry(i, 0, TimelineEvent(EventType.PUT_OFF, detail)) for i, detail in told])
        return moved

    return await retried(pool, unit)


async def close_digests(pool: asyncpg.Pool, carriers: Sequence[UUID]) -> frozenset[UUID]:
    """What comes from now on opens the next. Waits for accepts that are adding to them. Safe to repeat: once closed, a
    digest stays so. Returns those that are not closed, because somebody keeps them locked."""

    async def unit(connection: Connection, ids: Sequence[UUID]) -> None:
        closing = [row["carrier"] for row in await connection.fetch(_LOCK_OPEN, ids)]
        if not closing:
            return
        await connection.execute(_CLOSE, closing)
        sizes = await connection.fetch(_SIZES, closing)
        closed = [(row["digest"], TimelineEvent(EventType.DIGEST_CLOSED, {"items": row["items"]})) for row in sizes]
        await write_events(connection, [Entry(carrier, 0, event) for carrier, event in closed])

    _, held = await over_free(pool, carriers, unit)
    return held


async def is_open(connection: Connection, carrier: UUID) -> bool:
    """Whether it still collects; it then cannot close before the caller's transaction ends."""
    return bool(await connection.fetch(_LOCK_OPEN, [carrier]))


async def leave_digest(connection: Connection, notification_id: UUID, *, digest: UUID) -> bool:
    """Take it out of its digest; False where it is too late for that. The caller holds the notification's lock, and has
    taken back its open steps. What a carrier has collected goes on with the oldest of the others."""
    if digest == notification_id:
        return not await connection.fetchval(_IN_HAND, notification_id) and await _hand_on(connection, notification_id)
    if not await is_open(connection, digest):
        return False
    await connection.execute(_LEAVE, notification_id)
    return True


async def _hand_on(connection: Connection, carrier: UUID) -> bool:
    """The oldest of the others takes the carrier's place; False where a message of it may have arrived, and nothing
    happens. None is in anybody's hands. What has expired by now ends so."""
    if await connection.fetchval(_MAY_HAVE_ARRIVED, carrier):
        return False
    await connection.fetch(_LOCK_ITEMS, carrier)
    opened = await connection.fetch(_LOCK_OPEN, [carrier])
    await _end_late_items(connection, carrier)
    following: UUID | None = await connection.fetchval(_OLDEST, carrier)
    await connection.execute(_LEAVE, carrier)
    if following is None:
        await connection.execute(_FREE, carrier)
        await connection.execute(_CLOSE, [carrier])
        return True
    until = opened[0]["until"] if opened else None
    moved = [row["id"] for row in await connection.fetch(_MOVE, carrier, following)]
    await connection.execute(_NEXT_CARRIER, carrier, following)
    await connection.execute(_CARRIES, following, until)
    await connection.execute(_PLAN, following, until)
    detail = {"digest": str(following)}
    await write_events(connection, [Entry(one, 0, TimelineEvent(EventType.COLLECTED, detail)) for one in moved])
    return True


async def _end_late_items(connection: Connection, carrier: UUID, *, n: int = 0, at: datetime | None = None) -> None:
    """Its items whose time had run out `at` that moment (None: now) end. The caller holds their locks, and step `n`."""
    at = at or await connection.fetchval("SELECT now()")
    late = await connection.fetch(
        _END_LATE, carrier, at, Status.EXPIRED, Reason.EXPIRED_BEFORE_PLAN, n, CLAIM_WINDOW
    )  # fmt: skip
    detail = {"stage": Stage.QUEUED, "reason": Reason.EXPIRED_BEFORE_PLAN}
    await write_events(connection, [Entry(row["id"], 0, TimelineEvent(EventType.EXPIRED, detail)) for row in late])


async def share_ends(connection: Connection, ends: Mapping[UUID, Outcome], *, stopped: Collection[UUID]) -> None:
    """What a carrier's end is, is the end of all that it carried; but the others of those that were `stopped`, by a
    cancellation or because their own time ran out, go on without them. The caller holds the carriers' locks."""
    shared = [i for i in sorted(ends) if not (i in stopped and await _hand_on(connection, i))]
    if shared:
        await connection.execute(
            _SHARE, shared, [ends[i].status for i in shared], [ends[i].reason for i in shared],
            [ends[i].partial for i in shared], [ends[i].final for i in shared],
        )  # fmt: skip


async def cancel_collected(connection: Connection, ids: Sequence[UUID]) -> int:
    """Those of `ids` that others carry end cancelled; returns how many. The caller holds their locks."""
    ends = (Status.CANCELLED, Reason.CANCELLED_BY_REQUEST, Status.COLLECTED)
    return len(await connection.fetch(_END_ITEMS, min(ids), max(ids), ids, *ends))
