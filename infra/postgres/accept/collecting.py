"""Accepting what may be collected, or may repeat something: in a transaction of its own, beside the group commit.

The rows are stored as any others and then set right before anyone sees them: what is collected and what is a repeat needs
no work of its own. Slots are held until the COMMIT, so that who comes next sees what became of this one; and a digest that
closes meanwhile waits for it (`infra.postgres.engine.digests`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.digests import Dedupe, Digest, Placed, placed
from domain.states import Reason, Status
from domain.timeline import EventType
from infra.postgres.accept.accepting import CHUNK, PLAIN, Key, keep_key
from infra.postgres.accept.row import Row
from infra.postgres.accept.slots import enter_slots, leave_slots, originals
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

_SET = """
UPDATE notification n
SET digest = s.digest, status = coalesce(s.status, n.status), reason = s.reason, final = s.reason IS NOT NULL,
    finished_at = CASE WHEN s.reason IS NOT NULL THEN now() END
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[]) s(id, digest, status, reason)
WHERE n.id = s.id AND n.id = ANY ($3) AND n.id BETWEEN $1 AND $2"""

_NO_WORK = "DELETE FROM work WHERE notification_id = ANY ($1::uuid[])"


@dataclass(frozen=True, slots=True)
class Asked:
    """A row with what it asks for beside being sent."""

    row: Row
    digest: Digest | None
    dedupe: Dedupe | None

    @property
    def id(self) -> UUID:
        return self.row.id


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of one."""

    asked: Asked
    original: UUID | None = None
    """It repeats this one."""
    place: Placed | None = None

    @property
    def item(self) -> bool:
        """Another notification carries it."""
        return self.place is not None and self.place.digest != self.asked.id

    @property
    def row(self) -> Row:
        """As it is stored: its options name the original, its time is the digest's."""
        row = self.asked.row
        if self.original is not None:
            options: dict[str, Any] = msgspec.json.decode(row.options) if row.options else {}
            text = msgspec.json.encode({**options, "duplicate_of": str(self.original)}).decode()
            return row._replace(options=text)
        if self.place is not None and self.place.due_at is not None:
            return row._replace(send_at=self.place.due_at)
        return row


class CollectRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def store(self, asked: Sequence[Asked], *, key: Key | None, plain: Sequence[Row] = ()) -> bool:
        """Store all, of one tenant, in one transaction; False when the key is taken, and then nothing is stored."""

        async def unit(connection: Connection) -> bool:
            if key is not None and not await keep_key(connection, key):
                return False
            fates = await _decided(connection, asked)
            await _insert(connection, [*plain, *(fate.row for fate in fates)])
            await _set_right(connection, [fate for fate in fates if fate.original is not None or fate.place is not None])
            return True

        return await retried(self._pool, unit)


async def _decided(connection: Connection, asked: Sequence[Asked]) -> list[_Fate]:
    """What becomes of each, in their order. Repeats first: one that is not sent opens no digest."""
    tenant = asked[0].row.tenant
    wishes = {a.dedupe.slot: (a.dedupe.slot, a.id, a.dedupe.window) for a in reversed(asked) if a.dedupe is not None}
    taken = await originals(connection, tenant, list(wishes.values())) if wishes else {}
    sent = {a.id for a in asked if a.dedupe is None or taken[a.dedupe.slot] == a.id}
    digests = {a.id: a.digest for a in asked if a.digest is not None and a.id in sent}
    slots, now = await enter_slots(connection, tenant, sorted({digest.slot for digest in digests.values()}))
    fates: list[_Fate] = []
    for one in asked:
        if one.id not in sent:
            assert one.dedupe is not None
            fates.append(_Fate(one, original=taken[one.dedupe.slot]))
        elif one.id in digests:
            place = placed(one.id, digests[one.id], slots[digests[one.id].slot], now=now)
            slots[digests[one.id].slot] = place.slot
            fates.append(_Fate(one, place=place))
        else:
            fates.append(_Fate(one))
    await leave_slots(connection, slots)
    return fates


async def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), CHUNK):
        await connection.fetch(PLAIN, rows[start : start + CHUNK])


async def _set_right(connection: Connection, fates: Sequence[_Fate]) -> None:
    if not fates:
        return
    ids = [fate.asked.id for fate in fates]
    await connection.execute(
        _SET, min(ids), max(ids), ids,
        [fate.place.digest if fate.place else None for fate in fates],
        [Status.SUPPRESSED if fate.original else Status.COLLECTED if fate.item else None for fate in fates],
        [Reason.DUPLICATE if fate.original else None for fate in fates],
    )  # fmt: skip
    idle = [fate.asked.id for fate in fates if fate.original is not None or fate.item]
    await connection.execute(_NO_WORK, idle)
    told = [fate for fate in fates if fate.original or _waits(fate)]
    await write_events(connection, [Entry(fate.asked.id, 0, _event(fate)) for fate in told])


def _waits(fate: _Fate) -> bool:
    return fate.place is not None and fate.place.due_at is not None


def _event(fate: _Fate) -> TimelineEvent:
    if fate.original is not None:
        detail = {"reason": Reason.DUPLICATE, "stage": "accept", "of": str(fate.original)}
        return TimelineEvent(EventType.SUPPRESSED, detail)
    assert fate.place is not None
    return TimelineEvent(EventType.COLLECTED, {"digest": str(fate.place.digest)})
