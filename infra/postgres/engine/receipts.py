"""What is known of a step's messages, taken into its delivery and its open row, under the notification's lock.

Our own record and receipts both write `receipt_inbox`, in either order (docs/decisions/0023): each takes in here what it
finds there of the other. So the result does not depend on the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg

from domain.attempts import Awaited
from domain.receipts import why_failed
from domain.results import ResultClass
from domain.states import SUCCESS, Reason, Status, Strategy
from domain.timeline import EventType
from domain.work_row import Fate
from infra.postgres.columns import columns
from infra.postgres.engine.chains import StepKey, leave_rest, resumable, resume, stop_other_steps
from infra.postgres.engine.locks import Connection
from infra.postgres.engine.lost_attempts import keep_lost, lost_of
from infra.postgres.engine.options import awaited_by, options_of
from infra.postgres.engine.step_reports import StepReports
from infra.postgres.engine.suppressing import suppress
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

_REPORTED = """
SELECT DISTINCT i.notification_id, i.n FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
JOIN LATERAL (SELECT notification_id, n FROM receipt_inbox
              WHERE notification_id = x.id AND n = x.n AND (NOT told OR status <> 'sent') AND status IS NOT NULL
              OFFSET 0) i ON true
ORDER BY 1, 2"""
"""Also what was told already: a flush that is repeated must not undo it."""

_STEPS = """
SELECT x.id AS notification_id, x.n, m.tenant, m.lane, m.strategy, m.options, m.erased_at IS NOT NULL AS erased, d.channel,
       d.address, d.status, d.reason, d.sent_at, d.account, d.class, d.lost, w.state, w.awaiting, w.chain,
       json_array_length(d.rest -> 'chain') > 0 AS rest, w.address AS work_address, w.attempt, w.locale, w.failures,
       w.tried, now() AS now
FROM unnest($1::uuid[], $2::smallint[]) WITH ORDINALITY x(id, n, place)
JOIN LATERAL (SELECT tenant, lane, strategy, options, erased_at FROM notification WHERE id = x.id OFFSET 0) m ON true
JOIN LATERAL (SELECT channel, address, status, reason, sent_at, account, class, rest, lost FROM delivery
              WHERE notification_id = x.id AND n = x.n OFFSET 0) d ON true
LEFT JOIN LATERAL (SELECT state, awaiting, chain, address, attempt, locale, failures, tried FROM work
                   WHERE notification_id = x.id AND n = x.n FOR UPDATE) w ON true
ORDER BY x.place"""
"""A step without a record is being handed over for the first time: its own outcome comes first."""

_MESSAGES = """
SELECT i.* FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
JOIN LATERAL (SELECT * FROM receipt_inbox WHERE notification_id = x.id AND n = x.n OFFSET 0) i ON true
ORDER BY i.account, i.provider_id"""

_RECORD = """
UPDATE delivery d SET status = c.status, reason = c.reason, class = coalesce(c.class, d.class),
       code = coalesce(c.code, d.code),
       sent_at = coalesce(d.sent_at, CASE WHEN c.status IN ('sent', 'delivered', 'read') THEN now() END),
       delivered_at = least(d.delivered_at, c.delivered_at), read_at = least(d.read_at, c.read_at),
       receipt_until = CASE c.status WHEN 'sent' THEN d.receipt_until END, updated_at = now()
FROM unnest($3::uuid[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[],
            $10::timestamptz[]) c(id, n, status, reason, class, code, delivered_at, read_at)
WHERE d.notification_id = c.id AND d.n = c.n AND d.notification_id = ANY ($3) AND d.notification_id BETWEEN $1 AND $2"""

_STOP = """
DELETE FROM work WHERE ctid = ANY (ARRAY(
    SELECT w.tid FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
    JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = x.id AND n = x.n AND state = 0
                  OFFSET 0) w ON true))"""

_GO_ON = """
UPDATE work w SET receipt = c.receipt, awaiting = true,
       due_at = CASE w.state WHEN 0 THEN coalesce(c.due_at, now()) ELSE w.due_at END,
       cohort = CASE WHEN w.state = 0 AND $5 THEN NULL ELSE w.cohort END
FROM (SELECT r.tid, x.* FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::timestamptz[]) x(id, n, receipt, due_at)
      JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = x.id AND n = x.n OFFSET 0) r ON true) c
WHERE w.ctid = c.tid"""
"""Whoever has the row in hand, only to look, finds what was said when that is written."""

_TOLD = """
UPDATE receipt_inbox SET told = true WHERE ctid = ANY (ARRAY(
    SELECT i.tid FROM unnest($1::text[], $2::text[]) x(account, provider_id)
    JOIN LATERAL (SELECT ctid AS tid FROM receipt_inbox WHERE account = x.account AND provider_id = x.provider_id
                  OFFSET 0) i ON true))"""


async def take_in_reported(connection: Connection, steps: Sequence[StepKey]) -> None:
    """Receipts that came before our own record of these steps. The caller holds the locks, and decides the ends."""
    if steps:
        rows = await connection.fetch(_REPORTED, [i for i, _ in steps], [n for _, n in steps])
        await take_in(connection, [(row["notification_id"], row["n"]) for row in rows], driven=True)


async def take_in(connection: Connection, steps: Sequence[StepKey], *, driven: bool = False) -> set[int]:
    """Bring these steps to where their messages' evidence leads; the lanes in which something is due now. The caller holds
    the notifications' locks, and decides the ends afterwards. Safe to repeat. `driven`: by who drives the rows' cohort,
    and sees what is due in it."""
    if not steps:
        return set()
    ids, ns = [i for i, _ in steps], [n for _, n in steps]
    rows = await connection.fetch(_STEPS, ids, ns)
    messages: dict[StepKey, list[asyncpg.Record]] = {}
    for message in await connection.fetch(_MESSAGES, ids, ns):
        messages.setdefault((message["notification_id"], message["n"]), []).append(message)
    known = [StepReports(row, messages.get((row["notification_id"], row["n"]), []), _chain(row)) for row in rows]
    known = await _with_resumable(connection, known)
    await _record(connection, [step for step in known if step.evidence is not None])
    await keep_lost(connection, {step.key: step.lost for step in known if step.lost != lost_of(step.row["lost"])})
    await _tell(connection, known)
    lanes = await _change_work(connection, known, releases=not driven)
    await stop_other_steps(connection, [step.key for step in known if step.satisfies])
    await _suppress(connection, known)
    return lanes


async def stop_waiting(connection: Connection, steps: Sequence[StepKey]) -> None:
    """What these wait for has come: their open rows go, unless they are being handed over."""
    if steps:
        await connection.execute(_STOP, [i for i, _ in steps], [n for _, n in steps])


async def _with_resumable(connection: Connection, steps: Sequence[StepReports]) -> list[StepReports]:
    failed = [s.key for s in steps if s.row["rest"] and s.row["state"] is None and s.may_resume]
    arriving = {s.key[0] for s in steps if s.satisfies}
    may = await resumable(connection, [key for key in failed if key[0] not in arriving])
    return [replace(step, resumable=step.key in may) for step in steps] if may else list(steps)


async def _record(connection: Connection, steps: Sequence[StepReports]) -> None:
    rows = [_record_row(step) for step in steps]
    if rows:
        ids = [row[0] for row in rows]
        await connection.execute(_RECORD, min(ids), max(ids), *columns(rows))


def _record_row(step: StepReports) -> tuple[Any, ...]:
    known, status, failure = step.known, step.consequence.status, step.failure
    reason, result, code = step.row["reason"] if status is known else None, None, None
    if status is Status.UNKNOWN:
        reason = Reason.ANSWER_LOST
    if status in {Status.FAILED, Status.RETRYING} and status is not known and failure is not None:
        reason = why_failed(step.failed) if status is Status.FAILED else None
        result, code = failure["class"], failure["code"]
    elif status in SUCCESS and known not in SUCCESS:
        result, code = ResultClass.OK, ""  # instead of the failure's
    shown = status in {Status.DELIVERED, Status.READ}
    read_at = _first([m["read_at"] for m in step.messages])
    delivered_at = _first([*(m["delivered_at"] for m in step.messages), read_at])
    return (*step.key, status, reason, result, code, delivered_at if shown else None, read_at if shown else None)


async def _change_work(connection: Connection, steps: Sequence[StepReports], *, releases: bool) -> set[int]:
    fates = [(step, step.consequence.fate) for step in steps]
    stopping = [step for step, fate in fates if fate is Fate.END]
    await stop_waiting(connection, [step.key for step in stopping])
    await leave_rest(connection, {s.key: s.rest for s in stopping if s.evidence is Status.SENT})
    resuming = [step for step, fate in fates if fate is Fate.RESUME]
    await resume(connection, [(step.key, step.failed) for step in resuming])
    going_on = [(step, fate) for step, fate in fates if fate in {Fate.WAIT, Fate.LOOK}]
    if going_on:
        rows = [
            (*step.key, Status.DELIVERED, _read_by(step)) if fate is Fate.WAIT else (*step.key, step.failed, None)
            for step, fate in going_on
        ]
        await connection.execute(_GO_ON, *columns(rows), releases)
    return {step.row["lane"] for step, fate in fates if fate in {Fate.LOOK, Fate.RESUME}}


def _read_by(step: StepReports) -> datetime:
    """Until when the chain waits for its being read: counted from when it was sent."""
    assert step.chain is not None
    since: datetime = step.row["sent_at"] or step.row["now"]
    return since + step.chain.within


async def _suppress(connection: Connection, steps: Sequence[StepReports]) -> None:
    await suppress(connection, [
        (s.row["tenant"], s.row["channel"], address) for s in steps
        if (address := s.row["work_address"] or s.row["address"]) is not None and not s.row["erased"]
        and any(not m["told"] and m["status"] == Status.FAILED and m["class"] == ResultClass.RECIPIENT for m in s.messages)
    ])  # fmt: skip


async def _tell(connection: Connection, steps: Sequence[StepReports]) -> None:
    await write_events(connection, [
        Entry(*s.key, TimelineEvent(EventType.RECEIPT, _detail(m))) for s in steps for m in s.messages if s.told(m)
    ])  # fmt: skip
    told = [(m["account"], m["provider_id"]) for s in steps for m in s.messages if not m["told"]]
    if told:
        await connection.execute(_TOLD, *columns(told))


def _detail(message: asyncpg.Record) -> dict[str, Any]:
    status = Status(message["status"])
    at: datetime | None = {
        Status.DELIVERED: message["delivered_at"], Status.READ: message["read_at"], Status.FAILED: message["failed_at"],
    }.get(status)  # fmt: skip
    detail = {"status": status, "account": message["account"], "provider_id": message["provider_id"]}
    if at is not None:
        detail["at"] = at.isoformat()
    if status is Status.FAILED:
        detail |= {"class": message["class"], "code": message["code"]}
    return detail


def _chain(row: asyncpg.Record) -> Awaited | None:
    return None if row["strategy"] == Strategy.ALL else awaited_by(options_of(row["options"]))


def _first(times: Sequence[datetime | None]) -> datetime | None:
    return min((at for at in times if at is not None), default=None)
