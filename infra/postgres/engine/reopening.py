"""Steps that failed beside one that arrived, open again: the same steps of the same notification.

Each goes on as the row of a step that waits for its retry: the numbers of its claims go on, what it remembers of attempts
that may have arrived stays, and a receipt, a late answer, a cancellation or an edit meets it as it meets any open step.
Nothing else of the notification is opened, so that what arrived is not sent again. Its life begins anew. Once no step is
open, its end is decided over all deliveries, as always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from domain.lanes import Lane
from domain.lost import NOTHING_LOST, Lost
from domain.states import Status
from domain.timeline import EventType
from infra.postgres.columns import columns
from infra.postgres.engine.locks import Connection
from infra.postgres.engine.lost_attempts import keep_lost
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

NOBODYS = "none"
"""The account of a step that was never given one: whoever claims it finds that it is nobody's, and takes another."""

_REOPEN = """
UPDATE notification m SET status = 'accepted', reason = NULL, partial = false, final = false, finished_at = NULL,
       expires_at = greatest(m.expires_at, now() + x.life), lane = x.lane,
       options = (coalesce(m.options::jsonb, '{}') || jsonb_build_object('given', coalesce(m.options::jsonb->'given', '{}')
                  || jsonb_build_object('life', 'PT' || extract(epoch FROM x.life) || 'S')))::json
FROM unnest($3::uuid[], $4::interval[], $5::smallint[]) x(id, life, lane)
WHERE m.id = x.id AND m.id = ANY ($3) AND m.id BETWEEN $1 AND $2"""
"""What it was given to live is kept (`domain.edits.Given`): its times say so no longer."""

_REOPEN_CARRIED = """
UPDATE notification i SET status = 'collected', reason = NULL, partial = false, final = false, finished_at = NULL,
       expires_at = greatest(i.expires_at, c.expires_at)
FROM (SELECT m.id, m.expires_at FROM unnest($1::uuid[]) x(id)
      JOIN LATERAL (SELECT id, expires_at FROM notification WHERE id = x.id AND digest = id OFFSET 0) m ON true) c
WHERE i.digest = c.id AND i.digest = ANY ($1) AND i.id <> c.id"""
"""What the message holds is what it held: none of it has run out meanwhile."""

_OPEN = """
INSERT INTO work (notification_id, n, tenant, lane, channel, account, address, locale, due_at, expires_at, attempt, version)
SELECT x.id, x.n, m.tenant, m.lane, x.channel, x.account, x.address, x.locale, now(), m.expires_at, x.attempt, m.version
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[])
     x(id, n, channel, account, address, locale, attempt)
JOIN LATERAL (SELECT tenant, lane, expires_at, version FROM notification WHERE id = x.id OFFSET 0) m ON true"""

_RETRYING = """
UPDATE delivery d SET status = 'retrying', reason = NULL, rest = NULL, updated_at = now()
FROM unnest($3::uuid[], $4::smallint[]) x(id, n)
WHERE d.notification_id = x.id AND d.n = x.n AND d.notification_id = ANY ($3) AND d.notification_id BETWEEN $1 AND $2"""

_UNSAID = """
UPDATE receipt_inbox SET status = NULL WHERE ctid = ANY (ARRAY(
    SELECT i.tid FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
    JOIN LATERAL (SELECT ctid AS tid FROM receipt_inbox WHERE notification_id = x.id AND n = x.n AND status = 'failed'
                  AND provider_id <> concat_ws('-', x.id, x.n, attempt) OFFSET 0) i ON true))"""
"""That a message of it failed has had its effect, and says nothing of the next one, which may go under the same name.
What our own reference was said of stays said: it names the attempt (`domain.ids.reference`)."""


@dataclass(frozen=True, slots=True)
class Reopening:
    """A step that goes again."""

    notification_id: UUID
    n: int
    channel: str
    account: str | None
    """The one it was over last; None: none."""
    address: str
    locale: str | None
    attempt: int
    """No claim of it had a higher number."""
    lane: Lane
    """The one that it was posted in: a hurry was meant for the first try."""
    life: timedelta
    """How long the notification lives from now on, at least."""
    was: Status
    reason: str | None
    lost: Lost = NOTHING_LOST
    """Attempts that may have arrived, and are no reason any more not to try again."""


async def reopen(connection: Connection, steps: Sequence[Reopening]) -> None:
    """These are due now. The caller holds their notifications' locks, and has looked since: they are partial, and have no
    open step. Poke their lanes afterwards."""
    if not steps:
        return
    step_of = {step.notification_id: step for step in steps}
    ids = sorted(step_of)
    lives, lanes = [step_of[one].life for one in ids], [step_of[one].lane for one in ids]
    await connection.execute(_REOPEN, ids[0], ids[-1], ids, lives, lanes)
    await connection.execute(_REOPEN_CARRIED, ids)
    rows = [
        (s.notification_id, s.n, s.channel, s.account or NOBODYS, s.address, s.locale, s.attempt) for s in steps
    ]  # fmt: skip
    await connection.execute(_OPEN, *columns(rows))
    keys = [s.notification_id for s in steps], [s.n for s in steps]
    await connection.execute(_RETRYING, ids[0], ids[-1], *keys)
    await connection.execute(_UNSAID, *keys)
    excused = {(s.notification_id, s.n): tuple(replace(one, excused=True) for one in s.lost) for s in steps if s.lost}
    await keep_lost(connection, excused)
    await write_events(connection, [
        Entry(s.notification_id, s.n, TimelineEvent(EventType.RETRIED, _detail(s))) for s in steps
    ])  # fmt: skip


def _detail(step: Reopening) -> dict[str, str | None]:
    return {"channel": step.channel, "was": step.was, "reason": step.reason}
