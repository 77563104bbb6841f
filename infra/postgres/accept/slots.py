"""Slots of digests and of repeats: locked in the order of their hashes, so that two writers never wait for each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from domain.digests import Slot
from domain.states import SUCCESS, Status
from infra.postgres.engine.locks import Connection

_ENTER = """
INSERT INTO digest AS d (slot, tenant, until)
SELECT slot, $2, to_timestamp(0) FROM unnest($1::bytea[]) s(slot) ORDER BY slot
ON CONFLICT (slot) DO UPDATE SET tenant = d.tenant"""
"""Makes the row or locks it; waits for an accept that holds it, and for a close, after which the slot is a new one."""

_STANDS = """
SELECT d.slot, d.until, w.notification_id AS carrier, clock_timestamp() AS now
FROM unnest($1::bytea[]) s(slot)
JOIN LATERAL (SELECT slot, carrier, until FROM digest WHERE slot = s.slot OFFSET 0) d ON true
LEFT JOIN LATERAL (SELECT notification_id FROM work WHERE notification_id = d.carrier AND n = 0 OFFSET 0) w ON true"""
"""A carrier counts as long as its plan is open: whatever became of it otherwise, nothing is collected for nobody."""

_LEAVE = """
UPDATE digest d SET carrier = s.carrier, until = s.until
FROM unnest($1::bytea[], $2::uuid[], $3::timestamptz[]) s(slot, carrier, until) WHERE d.slot = s.slot"""

_TAKE = """
INSERT INTO dedupe AS d (slot, tenant, notification_id, until)
SELECT slot, $4, id, clock_timestamp() + life FROM unnest($1::bytea[], $2::uuid[], $3::interval[]) s(slot, id, life)
ORDER BY slot
ON CONFLICT (slot) DO UPDATE SET notification_id = EXCLUDED.notification_id, until = EXCLUDED.until
WHERE d.until <= clock_timestamp()
   OR EXISTS (SELECT FROM notification n WHERE n.id = d.notification_id AND n.final AND n.status <> ALL ($5::text[])
              AND NOT EXISTS (SELECT FROM notification o WHERE o.id = n.origin AND o.status = ANY ($5)))"""
"""The slot is theirs, or its row is locked as it is. What ended undelivered is no reason not to send the same again, unless
it was a new try of something that may have arrived after all."""

_GO_OVER = """
WITH held AS MATERIALIZED (
    SELECT slot, notification_id FROM dedupe WHERE slot = ANY (ARRAY(
        SELECT d.slot FROM unnest($1::uuid[]) o(origin)
        JOIN LATERAL (SELECT slot FROM dedupe WHERE notification_id = o.origin OFFSET 0) d ON true))
    ORDER BY slot FOR UPDATE
)
UPDATE dedupe d SET notification_id = o.id
FROM held h JOIN unnest($1::uuid[], $2::uuid[]) o(origin, id) ON o.origin = h.notification_id
WHERE d.slot = h.slot AND d.notification_id = h.notification_id"""

_TAKEN = "SELECT slot, notification_id FROM dedupe WHERE slot = ANY ($1::bytea[])"

_FORGET = (
    """
DELETE FROM dedupe WHERE slot = ANY (ARRAY(
    SELECT slot FROM dedupe WHERE until < now() ORDER BY until LIMIT $1)) AND until < now()""",
    """
DELETE FROM digest WHERE slot = ANY (ARRAY(
    SELECT slot FROM digest WHERE carrier IS NULL AND until < now() ORDER BY until LIMIT $1))
AND carrier IS NULL AND until < now()""",
)

_MAY_HAVE_ARRIVED = [*sorted(SUCCESS), Status.UNKNOWN]


async def enter_slots(connection: Connection, tenant: str, slots: Sequence[bytes]) -> tuple[dict[bytes, Slot], datetime]:
    """Lock these, as they stand then, and the moment by the database's clock."""
    if not slots:
        return {}, datetime.now(UTC)
    await connection.execute(_ENTER, slots, tenant)
    rows = await connection.fetch(_STANDS, slots)
    return {row["slot"]: Slot(row["carrier"], row["until"]) for row in rows}, rows[0]["now"]


async def leave_slots(connection: Connection, slots: Mapping[bytes, Slot]) -> None:
    """Write how they stand now."""
    if not slots:
        return
    states = list(slots.values())
    await connection.execute(_LEAVE, list(slots), [s.carrier for s in states], [s.until for s in states])


async def originals(
    connection: Connection, tenant: str, wishes: Sequence[tuple[bytes, UUID, timedelta]]
) -> dict[bytes, UUID]:
    """Take each slot for its notification where it is free, a slot once; returns whose each is now."""
    slots = [slot for slot, _, _ in wishes]
    await connection.execute(
        _TAKE, slots, [i for _, i, _ in wishes], [life for _, _, life in wishes], tenant, _MAY_HAVE_ARRIVED
    )  # fmt: skip
    return {row["slot"]: row["notification_id"] for row in await connection.fetch(_TAKEN, slots)}


async def pass_on_slots(connection: Connection, again: Mapping[UUID, UUID]) -> None:
    """Of each of these originals a new notification was made: what repeats the one repeats the other. A slot that somebody
    else has taken meanwhile is left. The caller holds the originals' locks."""
    if again:
        await connection.execute(_GO_OVER, list(again), list(again.values()))


async def forget_slots(pool: asyncpg.Pool, *, limit: int) -> int:
    """Delete at most `limit` of each kind whose window has ended; returns how many of the kind that has more."""
    statuses = [await pool.execute(statement, limit) for statement in _FORGET]
    return max(int(status.split()[-1]) for status in statuses)
