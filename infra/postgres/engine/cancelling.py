"""What people may still do to a notification that was accepted: cancel it, and learn what really happened.

The notification's row is locked first and everything else is a second statement: plan, flush and control otherwise miss
the rows that the other side is just writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from domain.cancelling import CancelAnswer, cancel_answer
from domain.errors import NotFound
from domain.states import Reason, Status
from domain.timeline import EventType
from infra.postgres.engine.chains import forget_rest
from infra.postgres.engine.digests import leave_digest
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.lost_attempts import END_REASON, END_STATUS
from infra.postgres.engine.timeline import write_event

_LOCK = """
SELECT status, final, cancelled_at FROM notification WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL FOR UPDATE"""

_HELD = "SELECT status, final, cancelled_at FROM notification WHERE id = $1 AND tenant = $2"

_TAKE_BACK = """
DELETE FROM work WHERE notification_id = $1 AND state = 0 RETURNING n, tenant, channel, account, address, attempt"""

_RECORD = f"""
INSERT INTO delivery AS d (notification_id, n, tenant, channel, account, address, status, reason, attempts)
SELECT $1, * FROM unnest($2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::smallint[])
ON CONFLICT (notification_id, n) DO UPDATE SET status = {END_STATUS}, reason = {END_REASON}, updated_at = now()
WHERE d.status NOT IN ('sent', 'delivered', 'read')"""
"""A step that only waits for its receipt was handed over, and stays so."""

_DIGEST = "SELECT digest FROM notification WHERE id = $1"

_MARK = "UPDATE notification SET cancelled_at = coalesce(cancelled_at, now()) WHERE id = $1"

_END_UNPLANNED = """
UPDATE notification SET status = 'cancelled', reason = $2, final = true, finished_at = now() WHERE id = $1 AND NOT final"""

_STATE = """
SELECT status, cancelled_at IS NOT NULL AS asked,
       ARRAY(SELECT channel FROM delivery WHERE notification_id = $1 AND status = 'cancelled' ORDER BY n) AS cancelled,
       ARRAY(SELECT channel FROM delivery WHERE notification_id = $1 AND status = 'unknown' ORDER BY n) AS unknown,
       ARRAY(SELECT channel FROM work WHERE notification_id = $1 AND state = 1 AND n > 0 ORDER BY n) AS in_flight
FROM notification WHERE id = $1"""


class CancelRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def cancel(self, tenant: str, *, notification_id: UUID) -> CancelAnswer:
        """Stop what has not been handed over. Asking again gives the same answer, except that by then it may be known how
        that ended which was in flight. Raises NotFound."""

        async def unit(connection: Connection) -> CancelAnswer:
            row = await connection.fetchrow(_LOCK, notification_id, tenant)
            if row is None:
                raise NotFound("There is no notification with this id.")
            return await _cancel(connection, notification_id, row)

        return await retried(self._pool, unit)


async def cancel_locked(connection: Connection, tenant: str, *, notification_id: UUID, because: str | None = None) -> None:
    """The same in a transaction of the caller, who holds the notification's lock; also one that was removed from view.
    `because` is told to the timeline."""
    row = await connection.fetchrow(_HELD, notification_id, tenant)
    assert row is not None
    await _cancel(connection, notification_id, row, because=because)


async def _cancel(
    connection: Connection, notification_id: UUID, row: asyncpg.Record, *, because: str | None = None
) -> CancelAnswer:
    await forget_rest(connection, [notification_id])
    stopped = not row["final"] and await stop(connection, notification_id)
    state = await connection.fetchrow(_STATE, notification_id)
    assert state is not None
    answer = cancel_answer(
        Status(state["status"]), asked=state["asked"], cancelled=state["cancelled"], in_flight=state["in_flight"],
        unknown=state["unknown"],
    )  # fmt: skip
    if stopped or (row["cancelled_at"] is None and not row["final"] and state["status"] != Status.COLLECTED):
        detail = {"answer": answer.result, "channels": answer.cancelled, "in_flight": answer.in_flight}
        detail |= {"may_have_arrived": answer.may_have_arrived} if answer.may_have_arrived else {}
        detail |= {"because": because} if because is not None else {}
        await write_event(connection, notification_id, EventType.CANCELLED, detail)
    return answer


async def stop(connection: Connection, notification_id: UUID) -> bool:
    """Take back every step that is not being handed over; whether there was one. The caller holds the notification's
    lock. What waits in a digest leaves it; once that has closed, nothing happens."""
    taken = await connection.fetch(_TAKE_BACK, notification_id)
    digest = await connection.fetchval(_DIGEST, notification_id)
    left = digest is not None and await leave_digest(connection, notification_id, digest=digest)
    if digest not in (None, notification_id):
        if not left:
            return False
        await connection.execute(_MARK, notification_id)
        await connection.execute(_END_UNPLANNED, notification_id, Reason.CANCELLED_BY_REQUEST)
        return True
    await connection.execute(_MARK, notification_id)
    await _record(connection, notification_id, [row for row in taken if row["n"] > 0])
    if any(row["n"] == 0 for row in taken):
        await connection.execute(_END_UNPLANNED, notification_id, Reason.CANCELLED_BY_REQUEST)
    else:
        await decide_ends(connection, [notification_id])
    return bool(taken)


async def _record(connection: Connection, notification_id: UUID, rows: Sequence[asyncpg.Record]) -> None:
    if rows:
        await connection.execute(
            _RECORD, notification_id, [r["n"] for r in rows], [r["tenant"] for r in rows], [r["channel"] for r in rows],
            [r["account"] for r in rows], [r["address"] for r in rows], [Status.CANCELLED] * len(rows),
            [Reason.CANCELLED_BY_REQUEST] * len(rows), [r["attempt"] for r in rows],
        )  # fmt: skip
