"""The memory of attempts that may have arrived (`domain.lost`), on the step's record (`delivery.lost`).

It is NULL wherever every answer came home, and is written by a statement of its own: what goes well pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from domain.lost import NOTHING_LOST, Lost, LostAttempt
from domain.timeline import EventType
from infra.postgres.engine.locks import Connection
from infra.postgres.engine.timeline import TimelineEvent

_KEEP = """
UPDATE delivery d SET lost = c.lost
FROM unnest($3::uuid[], $4::smallint[], $5::json[]) c(id, n, lost)
WHERE d.notification_id = c.id AND d.n = c.n AND d.notification_id = ANY ($3) AND d.notification_id BETWEEN $1 AND $2"""

_MAY_HAVE_ARRIVED = """
SELECT x.id FROM unnest($1::uuid[]) x(id)
WHERE EXISTS (SELECT FROM delivery WHERE notification_id = x.id AND lost IS NOT NULL OFFSET 0)"""

END_STATUS = "CASE WHEN d.lost IS NULL THEN EXCLUDED.status ELSE 'unknown' END"
END_REASON = "CASE WHEN d.lost IS NULL THEN EXCLUDED.reason ELSE 'answer_lost' END"
"""How a step whose record is `d` ends where it is stopped between two attempts, and an earlier one may have arrived."""


def arrived(row: str) -> str:
    """As an expression over a step's record: what an earlier attempt has brought by now, where the claim of it (`row`) is
    not over; NULL: nothing."""
    return f"""CASE WHEN status IN ('delivered', 'read') THEN 'delivered'
                      WHEN status = 'sent' AND {row}.receipt IS DISTINCT FROM 'OK' THEN 'sent' END"""


def lost_of(stored: str | None) -> Lost:
    """`delivery.lost` as it was read."""
    if stored is None:
        return NOTHING_LOST
    return tuple(LostAttempt(*one[:4]) for one in msgspec.json.decode(stored))


async def keep_lost(connection: Connection, steps: Mapping[tuple[UUID, int], Lost]) -> None:
    """So it stands with these steps from now on. Their records are there; the caller holds the locks."""
    if steps:
        ids = [notification_id for notification_id, _ in steps]
        await connection.execute(
            _KEEP, min(ids), max(ids), ids, [n for _, n in steps], [_stored(lost) for lost in steps.values()]
        )


async def may_have_arrived(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of `ids` of which an attempt was handed over, and nothing has said yet what became of it; open or ended. The
    caller holds their locks."""
    return {row["id"] for row in await connection.fetch(_MAY_HAVE_ARRIVED, ids)} if ids else set()


def still_unknown(channel: str, lost: Lost, *, because: str, falls_back: bool = False) -> TimelineEvent:
    """What the timeline says where a step ends (`because`), and an earlier attempt of it may have arrived."""
    then = "fallback" if falls_back else "hold"
    detail = {"attempt": lost[-1].attempt, "channel": channel, "then": then, "because": because}
    return TimelineEvent(EventType.UNKNOWN, detail)


def _stored(lost: Lost) -> str | None:
    """What is excused has a fourth part, which the version before passes over."""
    parts = [(one.attempt, one.account, one.recognised, *([True] if one.excused else [])) for one in lost]
    return msgspec.json.encode(parts).decode() if parts else None
