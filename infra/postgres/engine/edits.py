"""An edit: the notification changes and is planned anew, as long as nothing of it was ever handed over.

The notification's row is locked first, the steps in a second statement: a plan or a claim that was under way is then seen
as it ended. What is open is replaced by one plan row of the next version without a cohort; a workflow that holds the old
rows finds them gone, and a claim finds nothing, or an older version, which it gives back. What the old plan held is given
up with it: places under frequency caps, and the slot by which the same is not sent twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from domain.edits import Fence, fence
from domain.errors import Conflict, HandedOff, NotFound
from domain.lanes import Lane
from domain.timeline import EventType, moved
from domain.work_row import WorkState
from infra.postgres.accept.slots import Move, enter_repeats, move_slot
from infra.postgres.engine.digests import is_open, leave_digest
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import write_event

MOST_VERSIONS = 30_000
"""`version` is a smallint."""

_STORED = "SELECT * FROM notification WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL"

_LOCK = """
SELECT version, final, cancelled_at, digest, lane, user_id FROM notification
WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL FOR UPDATE"""

_STEPS = "SELECT state, attempt FROM work WHERE notification_id = $1 ORDER BY n FOR UPDATE"

_HANDED_OVER = "SELECT EXISTS (SELECT FROM delivery WHERE notification_id = $1 AND class IS NOT NULL)"
"""A provider's answer, or its loss, has a class; what was dropped or stopped before the first byte has none."""

_CLEAR_WORK = "DELETE FROM work WHERE notification_id = $1"

_CLEAR_DROPS = "DELETE FROM delivery WHERE notification_id = $1"

_CLEAR_CAP_USES = "DELETE FROM cap_use WHERE tenant = $1 AND person_id = $2 AND notification_id = $3"
"""A place without a record of its step would count as one that waits."""

_WRITE = """
UPDATE notification SET version = version + 1, lane = $2, template = $3, template_version = $4, content = $5, data = $6,
       options = $7, send_at = $8, category = $11, expires_at = coalesce($9, greatest($8, now()) + $10::interval),
       status = CASE WHEN digest <> id THEN status WHEN $8 > now() THEN 'scheduled' ELSE 'accepted' END
WHERE id = $1 RETURNING version, expires_at, coalesce($8 <= now(), true) AS due"""

_PLAN_AGAIN = """
INSERT INTO work (notification_id, n, tenant, lane, due_at, expires_at, attempt, version)
SELECT id, 0, tenant, lane, greatest(send_at, now()), expires_at, $2, version FROM notification
WHERE id = $1 AND (digest IS NULL OR digest = id)"""
"""`attempt` goes on where it was: the number of a claim is never used twice."""


@dataclass(frozen=True, slots=True)
class Edit:
    """The whole of what can be edited, as it shall be stored; `fields` names what was asked to change."""

    fields: Sequence[str]
    version: int
    """The version that this was computed from."""
    lane: Lane
    category: str
    template: str | None
    template_version: int | None
    content: str | None
    """JSON; `data` and `options` too."""
    data: str | None
    options: str | None
    send_at: datetime | None
    expires_at: datetime | None
    expires_in: timedelta | None
    """Used where `expires_at` is None; counts from `send_at` or now."""
    digest: UUID | None = None
    """The digest that it was in when this was computed."""
    leaves: bool = False
    """It leaves that digest, and is sent by itself."""
    move: Move | None = None
    """Between the slots of its contents, where these differ."""


@dataclass(frozen=True, slots=True)
class Edited:
    version: int
    expires_at: datetime
    due: bool
    """It can be sent at once: poke its lane."""


class EditRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def stored(self, tenant: str, *, notification_id: UUID) -> asyncpg.Record:
        """The whole row. Raises NotFound."""
        row: asyncpg.Record | None = await self._pool.fetchrow(_STORED, notification_id, tenant)
        if row is None:
            raise NotFound("There is no notification with this id.")
        return row

    async def write(self, tenant: str, *, notification_id: UUID, edit: Edit) -> Edited | None:
        """Store it and plan anew; None when another edit came first: compute it again. Raises NotFound, HandedOff,
        Repeats (the content that it would have)."""

        async def unit(connection: Connection) -> Edited | None:
            row = await connection.fetchrow(_LOCK, notification_id, tenant)
            if row is None:
                raise NotFound("There is no notification with this id.")
            steps = await connection.fetch(_STEPS, notification_id)
            move = edit.move
            if move is not None and not await enter_repeats(connection, tenant, notification_id, move):
                move = None
            await _check_fences(connection, notification_id, row, steps)
            if row["version"] != edit.version or row["digest"] != edit.digest:
                return None
            if row["version"] >= MOST_VERSIONS:
                raise Conflict("It was edited too often; cancel it and send a new one.")
            if move is not None:
                await move_slot(connection, notification_id, move)
            if row["user_id"] is not None:
                await connection.execute(_CLEAR_CAP_USES, tenant, row["user_id"], notification_id)
            attempt = max((s["attempt"] for s in steps), default=0)
            return await _replace(connection, notification_id, edit, attempt=attempt, before=Lane(row["lane"]))

        return await retried(self._pool, unit)


async def _check_fences(
    connection: Connection, notification_id: UUID, row: asyncpg.Record, steps: Sequence[asyncpg.Record]
) -> None:
    digest = row["digest"]
    travels = digest not in (None, notification_id) and not row["final"] and not await is_open(connection, digest)
    reached = (
        Fence.PLANNED
        if travels
        else fence(
            final=row["final"],
            cancelled=row["cancelled_at"] is not None,
            handing_over=any(step["state"] == WorkState.IN_HAND for step in steps),
            handed_over=bool(await connection.fetchval(_HANDED_OVER, notification_id)),
        )
    )
    if reached is not None:
        raise HandedOff(f"It can no longer be edited; fence reached: {reached}.", fence=reached)


async def _replace(connection: Connection, notification_id: UUID, edit: Edit, *, attempt: int, before: Lane) -> Edited:
    await connection.execute(_CLEAR_WORK, notification_id)
    await connection.execute(_CLEAR_DROPS, notification_id)
    if edit.leaves and edit.digest is not None:
        await leave_digest(connection, notification_id, digest=edit.digest)
    made = await connection.fetchrow(
        _WRITE, notification_id, int(edit.lane), edit.template, edit.template_version, edit.content, edit.data,
        edit.options, edit.send_at, edit.expires_at, edit.expires_in, edit.category,
    )  # fmt: skip
    assert made is not None
    await connection.execute(_PLAN_AGAIN, notification_id, attempt)
    detail = {
        "fields": edit.fields,
        "version": made["version"],
        **(moved(before, edit.lane) if edit.lane != before else {}),
    }
    await write_event(connection, notification_id, EventType.EDITED, detail)
    return Edited(made["version"], made["expires_at"], made["due"])
