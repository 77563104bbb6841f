"""Erasing a person: everything in the columns that `tables.PERSONAL` lists, in steps that can be broken off and repeated.

    begin   one transaction: the user is `erased` (nothing is planned or claimed for it any more), profile, addresses,
            devices, preferences and stored answers go, objections stay as digests (`infra.postgres.users.suppressions`)
    step    one transaction each: a page of the user's notifications in the order of their ids. Open work is cancelled,
            content, data and addresses go, the timeline says `erased`; inbox items are deleted
    pass    steps from the first notification to the last. Passes are repeated until one that began `SETTLE` after the
            request finds nothing in flight: an accept that had checked the user a moment before, or a provider's answer,
            may write later than the first pass reads

What survives: ids, states, times, reasons, events. A direct send to the same address names no user and is nobody's here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import NotFound
from domain.timeline import EventType
from domain.work_row import WorkState
from infra.postgres.database import Database
from infra.postgres.engine.cancelling import cancel_locked
from infra.postgres.engine.digests import cancel_collected
from infra.postgres.engine.locks import Connection, lock_notifications, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events
from infra.postgres.tables import PERSONAL
from infra.postgres.users.suppressions import leave_objections

PAGE = 200
"""Notifications of one step, and inbox items: it locks as many rows."""
SETTLE = timedelta(seconds=60)
"""Longer than an accept remembers a user (5 s) and may then wait for its commit (30 s)."""
AGAIN = timedelta(seconds=10)
"""Between two passes."""
LEASE = timedelta(seconds=30)

_FIRST = UUID(int=0)


def emptied(table: str) -> str:
    """Every personal column of `table` as when nothing was ever given: a new one in the list is covered."""
    return ", ".join(f"{column} = DEFAULT" for column in PERSONAL[table])


def there(table: str) -> str:
    """Whether a row of `table` still holds something; for columns whose default is NULL."""
    return " OR ".join(f"{column} IS NOT NULL" for column in PERSONAL[table])


_LOCK_PERSON = "SELECT state FROM person WHERE tenant = :tenant AND id = :person FOR UPDATE"

_PERSON = f"""
UPDATE person SET {emptied("person")}, locale = DEFAULT, time_zone = DEFAULT, state = 'erased', updated_at = now()
WHERE tenant = :tenant AND id = :person"""

ADDRESSES = "SELECT address FROM identity WHERE tenant = :tenant AND person_id = :person"

_IDENTITIES = "DELETE FROM identity WHERE tenant = :tenant AND person_id = :person"

_DEVICES = "DELETE FROM device WHERE tenant = :tenant AND person_id = :person"

_PREFERENCES = "DELETE FROM preference WHERE tenant = :tenant AND person_id = :person"

_CAP_USES = "DELETE FROM cap_use WHERE tenant = :tenant AND person_id = :person"

_TICKETS = "DELETE FROM inbox_ticket WHERE tenant = :tenant AND user_id = :person"

STORED_ANSWERS = """
FROM idempotency i JOIN app a ON i.tenant = a.tenant AND i.app = a.id
WHERE a.tenant = :tenant
  AND i.route = ANY (CAST(:own AS text[]) || ARRAY['POST /v1/users', 'POST /v1/suppressions'])
  AND CASE i.route
          WHEN 'POST /v1/users' THEN
              CASE WHEN position(convert_to(:encoded, 'UTF8') IN i.answer) > 0
                   THEN convert_from(i.answer, 'UTF8')::json ->> 'id' = :person END
          WHEN 'POST /v1/suppressions' THEN convert_from(i.answer, 'UTF8')::json ->> 'address' = ANY (:addresses)
          ELSE true END"""
"""Answers kept under idempotency keys that tell of one user (`answers_of`). The routes are ranges of the primary key: none
but users' and suppressions' answers of the last 30 days are read."""

_ANSWERS = f"""
DELETE FROM idempotency WHERE (tenant, app, route, key) IN (SELECT i.tenant, i.app, i.route, i.key {STORED_ANSWERS})"""
"""A key that goes with its answer is free again, and its request is refused by then: the user is erased."""

_BEGIN = """
INSERT INTO erasure (tenant, person_id, requested_by, counts) VALUES (:tenant, :person, :by, CAST(:counts AS jsonb))
ON CONFLICT (tenant, person_id) DO NOTHING"""

_READ = "SELECT * FROM erasure WHERE tenant = $1 AND person_id = $2"

_DUE = """
UPDATE erasure SET due_at = now() + $1 WHERE (tenant, person_id) = (
    SELECT tenant, person_id FROM erasure WHERE finished_at IS NULL AND due_at <= now()
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING tenant, person_id"""

_TAKE = """
SELECT e.*, now() AS now FROM erasure e
WHERE tenant = $1 AND person_id = $2 AND finished_at IS NULL FOR UPDATE SKIP LOCKED"""

_PAGE = """
SELECT id FROM notification WHERE tenant = $1 AND user_id = $2 AND id > $3 ORDER BY id LIMIT $4"""

_OPEN = """
SELECT w.notification_id, w.state FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT notification_id, state FROM work WHERE notification_id = x.id OFFSET 0) w ON true"""

_NOTIFICATIONS = f"""
UPDATE notification SET {emptied("notification")}, erased_at = coalesce(erased_at, now())
WHERE id = ANY ($3) AND id BETWEEN $1 AND $2 AND (erased_at IS NULL OR {there("notification")}) RETURNING id"""

_DELIVERIES = f"""
UPDATE delivery SET {emptied("delivery")}
WHERE notification_id = ANY ($3) AND notification_id BETWEEN $1 AND $2 AND ({there("delivery")}) RETURNING 1"""

_ITEMS = """
DELETE FROM inbox_item WHERE id = ANY (ARRAY(
    SELECT id FROM inbox_item WHERE tenant = $1 AND user_id = $2 ORDER BY id LIMIT $3)) RETURNING 1"""

_GO_ON = """
UPDATE erasure SET pass_at = $3, cursor = $4, counts = $5::jsonb, due_at = now() + $6,
       finished_at = CASE WHEN $7 THEN now() END
WHERE tenant = $1 AND person_id = $2"""


@dataclass(frozen=True, slots=True)
class Erasure:
    """How far it is. `counts`: what was erased so far, by kind; `in_flight` of the last pass."""

    requested_at: datetime
    finished_at: datetime | None
    counts: Mapping[str, int]


class ErasureRepository:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._engine = database.engine

    async def begin(self, tenant: str, person_id: str, *, requested_by: UUID | None) -> None:
        """Erase the profile and all that hangs on it, and put up what is left to do. Again, it changes nothing. Raises
        NotFound."""
        who = {"tenant": tenant, "person": person_id}
        async with self._engine.begin() as connection:
            if (await connection.execute(text(_LOCK_PERSON), who)).first() is None:
                raise NotFound("There is no user with this id.")
            counts = await _erase_profile(connection, tenant, person_id)
            row = {**who, "by": requested_by, "counts": msgspec.json.encode(counts).decode()}
            await connection.execute(text(_BEGIN), row)

    async def read(self, tenant: str, person_id: str) -> Erasure:
        """One that was begun, from the primary."""
        row = await self._pool.fetchrow(_READ, tenant, person_id)
        assert row is not None
        return Erasure(row["requested_at"], row["finished_at"], msgspec.json.decode(row["counts"]))

    async def due(self) -> tuple[str, str] | None:
        """An erasure that is to go on: (tenant, user). Nobody else gets it for `LEASE`."""
        row = await self._pool.fetchrow(_DUE, LEASE)
        return None if row is None else (row["tenant"], row["person_id"])

    async def step(self, tenant: str, person_id: str) -> bool:
        """One page; whether this pass goes on. Safe to repeat: what is erased is not erased again, and counted once.
        False too while another process is at it, and after the end."""

        async def unit(connection: Connection) -> bool:
            row = await connection.fetchrow(_TAKE, tenant, person_id)
            if row is None:
                return False
            counts: dict[str, int] = msgspec.json.decode(row["counts"])
            pass_at: datetime = row["pass_at"] or row["now"]
            if row["pass_at"] is None:
                counts["in_flight"] = 0
            page = await connection.fetch(_PAGE, tenant, person_id, row["cursor"] or _FIRST, PAGE)
            ids = [found["id"] for found in page]
            if ids:
                await _erase_notifications(connection, tenant, ids, counts)
            items = len(await connection.fetch(_ITEMS, tenant, person_id, PAGE))
            counts["inbox_items"] = counts.get("inbox_items", 0) + items
            more = max(len(ids), items) == PAGE
            settled = pass_at >= row["requested_at"] + SETTLE
            finished = not more and settled and not counts["in_flight"]
            cursor = ids[-1] if ids else row["cursor"]
            place = (pass_at, cursor) if more else (None, None)
            encoded = msgspec.json.encode(counts).decode()
            await connection.execute(_GO_ON, tenant, person_id, *place, encoded, LEASE if more else AGAIN, finished)
            return more

        return await retried(self._pool, unit)


def answers_of(tenant: str, person_id: str, *, addresses: Sequence[str]) -> dict[str, Any]:
    """What `STORED_ANSWERS` takes."""
    own = [f"POST /v1/users/{person_id}/{part}" for part in ("identities", "suppressions", "devices")]
    encoded = msgspec.json.encode(person_id).decode()
    return {"tenant": tenant, "person": person_id, "own": own, "encoded": encoded, "addresses": list(addresses)}


async def _erase_profile(connection: AsyncConnection, tenant: str, person_id: str) -> dict[str, int]:
    who = {"tenant": tenant, "person": person_id}
    addresses = [row.address for row in await connection.execute(text(ADDRESSES), who)]
    gone, kept = await leave_objections(connection, tenant, person_id)
    answers = await connection.execute(text(_ANSWERS), answers_of(tenant, person_id, addresses=addresses))
    devices = await connection.execute(text(_DEVICES), who)
    identities = await connection.execute(text(_IDENTITIES), who)
    preferences = await connection.execute(text(_PREFERENCES), who)
    await connection.execute(text(_CAP_USES), who)
    await connection.execute(text(_TICKETS), who)
    await connection.execute(text(_PERSON), who)
    return {
        "identities": identities.rowcount, "devices": devices.rowcount, "preferences": preferences.rowcount,
        "suppressions": gone, "suppressions_kept": kept, "stored_answers": answers.rowcount,
    }  # fmt: skip


async def _erase_notifications(connection: Connection, tenant: str, ids: Sequence[UUID], counts: dict[str, int]) -> None:
    """Cancels first: what nobody may send any more needs no content."""
    await lock_notifications(connection, ids)
    collected = await cancel_collected(connection, ids)
    open_steps = await connection.fetch(_OPEN, ids)
    for notification_id in sorted({row["notification_id"] for row in open_steps}):
        await cancel_locked(connection, tenant, notification_id=notification_id)
    stopped = {row["notification_id"] for row in open_steps if row["state"] == WorkState.OPEN}
    counts["cancelled"] = counts.get("cancelled", 0) + collected + len(stopped)
    counts["in_flight"] += sum(1 for row in open_steps if row["state"] == WorkState.IN_HAND)
    erased = [row["id"] for row in await connection.fetch(_NOTIFICATIONS, ids[0], ids[-1], ids)]
    deliveries = await connection.fetch(_DELIVERIES, ids[0], ids[-1], ids)
    await write_events(connection, [Entry(one, 0, TimelineEvent(EventType.ERASED, {})) for one in erased])
    counts["notifications"] = counts.get("notifications", 0) + len(erased)
    counts["deliveries"] = counts.get("deliveries", 0) + len(deliveries)


HOW: dict[str, Any] = {
    "person": _PERSON, "identity": _IDENTITIES, "device": _DEVICES, "suppression": leave_objections,
    "notification": _NOTIFICATIONS, "delivery": _DELIVERIES, "work": cancel_locked, "inbox_item": _ITEMS,
    "idempotency": _ANSWERS, "preference": _PREFERENCES,
}  # fmt: skip
"""Table of `PERSONAL` -> what erases its rows; a test asks for each."""
