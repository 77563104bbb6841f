"""Slots of digests and of repeats: locked in the order of their hashes, so that two writers never wait for each other.

Who needs both locks those of repeats first; whoever has locks of notifications took them before. One does not: an edit by
which a carrier leaves its digest locks what it carried after slots of repeats (`engine.digests`). Where an edit of one of
these wants the same slot at that moment, PostgreSQL undoes one of the two, which is done once more (`retried`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from domain.digests import Slot
from domain.errors import Repeats
from domain.states import SUCCESS, Status
from infra.postgres.engine.locks import Connection

MOST_TRIES = 100
"""Earlier tries that are remembered with a slot, the first ones: each is looked at when the same is posted again."""

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

_IS_FREE = """
(d.until <= clock_timestamp()
 OR NOT EXISTS (SELECT FROM unnest(d.earlier || d.notification_id) t(id)
                LEFT JOIN LATERAL (SELECT final AND status <> ALL ({arrived}::text[]) AS undelivered FROM notification
                                   WHERE id = t.id OFFSET 0) n ON true
                WHERE n.undelivered IS NOT TRUE))"""
"""What ended undelivered is no reason not to send the same again, unless one of its tries may have arrived after all."""

_TAKE = f"""
INSERT INTO dedupe AS d (slot, tenant, notification_id, until)
SELECT slot, $4, id, clock_timestamp() + life FROM unnest($1::bytea[], $2::uuid[], $3::interval[]) s(slot, id, life)
ORDER BY slot
ON CONFLICT (slot) DO UPDATE SET notification_id = EXCLUDED.notification_id, until = EXCLUDED.until, earlier = NULL
WHERE {_IS_FREE.format(arrived="$5")}"""
"""The slot is theirs, or its row is locked as it is."""

_GO_OVER = f"""
WITH mine AS MATERIALIZED (
    SELECT o.origin, o.id, d.slot FROM unnest($1::uuid[], $2::uuid[]) o(origin, id)
    JOIN LATERAL (SELECT slot FROM dedupe WHERE notification_id = o.origin
                  UNION ALL SELECT slot FROM dedupe WHERE earlier @> ARRAY[o.origin] OFFSET 0) d ON true),
held AS MATERIALIZED (
    SELECT slot, notification_id, earlier FROM dedupe WHERE slot = ANY (ARRAY(SELECT slot FROM mine))
    ORDER BY slot FOR UPDATE),
made AS (
    SELECT h.slot, h.notification_id, h.earlier, array_agg(m.id ORDER BY m.id) AS ids
    FROM held h JOIN mine m ON m.slot = h.slot AND m.origin = ANY (h.earlier || h.notification_id) GROUP BY 1, 2, 3)
UPDATE dedupe d SET notification_id = m.ids[cardinality(m.ids)],
       earlier = (m.earlier || m.notification_id || trim_array(m.ids, 1))[:{MOST_TRIES}]
FROM made m
WHERE d.slot = m.slot AND d.slot = ANY (ARRAY(SELECT slot FROM held))"""
"""Of two that are made of one family in one call the newer one stands for both, of two calls the second's: it has waited,
and reads `held`, the slot as the first left it; `d` is as it was before."""

_HOLDS = """
SELECT EXISTS (SELECT FROM dedupe WHERE slot = $1 AND until > clock_timestamp()
               AND $2::uuid = ANY (earlier || notification_id))"""

_ENTER_REPEATS = """
INSERT INTO dedupe AS d (slot, tenant, notification_id, until)
SELECT slot, $2, $3, to_timestamp(0) FROM unnest($1::bytea[]) s(slot) ORDER BY slot
ON CONFLICT (slot) DO UPDATE SET tenant = d.tenant"""
"""Makes the row, as one whose window has ended, or locks it."""

_REPEATS = f"""
SELECT slot, notification_id, until, coalesce(earlier, '{{}}') || notification_id AS tries,
       {_IS_FREE.format(arrived="$2")} AS free
FROM dedupe d WHERE slot = ANY ($1::bytea[])"""

_SET_REPEATS = """
UPDATE dedupe SET notification_id = $2, until = $3, earlier = nullif($4::uuid[], '{}') WHERE slot = $1"""

_DROP_REPEATS = "DELETE FROM dedupe WHERE slot = $1"

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


@dataclass(frozen=True, slots=True)
class Move:
    """An edit changes what a notification is known by where its like is not sent twice."""

    before: bytes
    after: bytes


async def enter_repeats(connection: Connection, tenant: str, notification_id: UUID, move: Move) -> bool:
    """Lock both slots where the first is this notification's; False where it is not, and then nothing moves. The caller
    holds the notification's lock."""
    if not await connection.fetchval(_HOLDS, move.before, notification_id):
        return False
    await connection.execute(_ENTER_REPEATS, [move.before, move.after], tenant, notification_id)
    return True


async def move_slot(connection: Connection, notification_id: UUID, move: Move) -> None:
    """From now on it stands for its new content, for as long as it would have for the old, which may be sent again; unless
    another try of the old may have arrived, whose slot that stays. Both are entered. Raises Repeats."""
    rows = await connection.fetch(_REPEATS, [move.before, move.after], _MAY_HAVE_ARRIVED)
    found = {row["slot"]: row for row in rows}
    before, after = found[move.before], found[move.after]
    if not after["free"]:
        raise Repeats(of=after["notification_id"])
    others = [one for one in before["tries"] if one != notification_id]
    await connection.execute(_SET_REPEATS, move.after, notification_id, before["until"], [])
    if others:
        await connection.execute(_SET_REPEATS, move.before, others[-1], before["until"], others[:-1])
    else:
        await connection.execute(_DROP_REPEATS, move.before)


async def forget_slots(pool: asyncpg.Pool, *, limit: int) -> int:
    """Delete at most `limit` of each kind whose window has ended; returns how many of the kind that has more."""
    statuses = [await pool.execute(statement, limit) for statement in _FORGET]
    return max(int(status.split()[-1]) for status in statuses)
