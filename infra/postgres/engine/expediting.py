"""Expedite: what waits for its time becomes due at once, in the high lane. The answer says what really happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from uuid import UUID

import asyncpg
import msgspec

from domain.edits import GIVEN
from domain.errors import NotFound, Unavailable
from domain.lanes import POLICIES, Lane
from domain.states import SUCCESS, Status
from domain.timeline import EventType, moved
from domain.work_row import WorkState
from infra.postgres.engine.account_queue import bound_of
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.options import fallback_wait, options_of, times_of
from infra.postgres.engine.timeline import write_event

LOOKS = 10
"""For the notification that an item travels with: each is one more that was handed on in the moment before its lock."""

_LOCK = """
SELECT status, final, lane, cancelled_at, options, accepted_at, send_at, expires_at FROM notification
WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL FOR UPDATE"""

_CARRIER = """
SELECT digest FROM notification
WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL AND status = 'collected' AND NOT final"""

_STEPS = """
SELECT w.n, w.state, w.due_at > now() OR (w.cohort IS NULL AND w.lane > 0) AS waits,
       EXISTS (SELECT FROM delivery d WHERE d.notification_id = $1 AND d.n = w.n AND d.class IS NOT NULL) AS tried
FROM work w WHERE w.notification_id = $1 ORDER BY w.n FOR UPDATE OF w"""
"""A step that was tried waits for its retry, and providers ask for such waits."""

_MOVE = f"""
UPDATE work SET due_at = now(), lane = 0, cohort = NULL,
       falls_back_at = CASE WHEN falls_back_at IS NOT NULL THEN least({bound_of("work")}, now() + $3::interval) END
WHERE notification_id = $1 AND n = ANY ($2::smallint[])"""

_LANE = "UPDATE notification SET lane = 0, send_at = least(send_at, now()), options = $2 WHERE id = $1"


class ExpediteResult(StrEnum):
    """What hurrying it achieved."""

    EXPEDITED = "expedited"
    """It was waiting; now it is due, in the high lane."""
    ALREADY_DUE = "already_due"
    """It was due already: a workflow has it, or takes it up next."""
    ALREADY_HANDED_OFF = "already_handed_off"
    """It was handed over, or is being handed over at this moment, or waits for a retry that the provider's answer asked
    for."""
    ALREADY_FINISHED = "already_finished"
    """It has ended undelivered, or was cancelled."""


@dataclass(frozen=True, slots=True)
class Expedited:
    result: ExpediteResult
    lane: Lane
    """The lane it is in now."""


class ExpediteRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def expedite(self, tenant: str, *, notification_id: UUID) -> Expedited:
        """Safe to repeat: what is due stays due. Poke the high lane after `expedited`. What waits in a digest is hurried
        with all of it. Raises NotFound, Unavailable (its digest changed hands at every look: nothing was done)."""
        for _ in range(LOOKS):
            expedited = await retried(self._pool, partial(_look, tenant=tenant, notification_id=notification_id))
            if expedited is not None:
                return expedited
        raise Unavailable("Its digest is being changed at the moment; try again.")


async def _look(connection: Connection, *, tenant: str, notification_id: UUID) -> Expedited | None:
    """One try, in a transaction of its own. None, and nothing done, where the notification that it travels with was another
    one by the time its lock was ours: it was handed on, or has left or ended. Raises NotFound."""
    carrier = await connection.fetchval(_CARRIER, notification_id, tenant)
    row = await connection.fetchrow(_LOCK, carrier or notification_id, tenant)
    if carrier != await connection.fetchval(_CARRIER, notification_id, tenant):
        return None
    if row is None:
        raise NotFound("There is no notification with this id.")
    return await _expedite(connection, carrier or notification_id, row)


async def _expedite(connection: Connection, notification_id: UUID, row: asyncpg.Record) -> Expedited:
    """The caller has its lock, and `row` as it is since then."""
    lane = Lane(row["lane"])
    if row["final"] or row["cancelled_at"] is not None:
        arrived = Status(row["status"]) in SUCCESS
        ended = ExpediteResult.ALREADY_HANDED_OFF if arrived else ExpediteResult.ALREADY_FINISHED
        return Expedited(ended, lane)
    steps = await connection.fetch(_STEPS, notification_id)
    untried = [step for step in steps if step["state"] == WorkState.OPEN and not step["tried"]]
    waiting = [step["n"] for step in untried if step["waits"]]
    if not waiting:
        return Expedited(ExpediteResult.ALREADY_DUE if untried else ExpediteResult.ALREADY_HANDED_OFF, lane)
    after = fallback_wait(options_of(row["options"]).get("fallback_after"))
    await connection.execute(_MOVE, notification_id, waiting, after)
    await connection.execute(_LANE, notification_id, _options(row))
    await write_event(connection, notification_id, EventType.EXPEDITED, moved(lane, Lane.HIGH))
    return Expedited(ExpediteResult.EXPEDITED, Lane.HIGH)


def _options(row: asyncpg.Record) -> str:
    """What an answer that is lost leads to stays as it was in its own lane: hurry is no reason to send anything twice. And
    what it was given is kept: sent again, it is not hurried."""
    options, lane, times = options_of(row["options"]), Lane(row["lane"]), times_of(row)
    options[GIVEN] = {**options.get(GIVEN, {}), "lane": times.posted_lane.label, "life": times.life}
    if lane is not Lane.HIGH:
        options.setdefault("on_unknown", "resend" if POLICIES[lane].resend_unknown else "hold")
    return msgspec.json.encode(options).decode()
