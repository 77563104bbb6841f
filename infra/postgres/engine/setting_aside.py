"""Rows that cannot be claimed or read as they are: put off for others, and ended when nobody could for long enough.

During a deploy a row may hold what only the next version knows (a channel, an option). It goes back, out of its cohort, so
that a worker of that version can have it; `domain.unreadable.aside` says for how long. Nothing of it is needed but its key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from domain.lost import LostAttempt
from domain.results import ResultClass
from domain.states import Reason, Status
from domain.timeline import EventType, Stage
from domain.unreadable import Aside, aside
from domain.work_row import WorkState
from infra.postgres.engine.account_queue import bound_of
from infra.postgres.engine.chains import satisfied
from infra.postgres.engine.clock_steps import FALLBACK_AFTER
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection, Held, lock_notifications, over_free
from infra.postgres.engine.lost_attempts import END_REASON, END_STATUS, arrived, keep_lost, lost_of, still_unknown
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

_LOOK = f"""
SELECT w.*, d.lost, d.came FROM unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::smallint[]) x(id, n, attempt, faults)
JOIN LATERAL (SELECT notification_id, n, attempt, faults, state, tenant, channel, account, address, awaiting, receipt,
                     expires_at <= now() AS expired
              FROM work WHERE notification_id = x.id AND n = x.n AND attempt = x.attempt AND faults = x.faults
              OFFSET 0) w ON true
LEFT JOIN LATERAL (SELECT lost, {arrived("w")} AS came FROM delivery WHERE notification_id = x.id AND n = x.n
                   OFFSET 0) d ON true"""
"""Going back keeps the attempt; `faults` says that it has not gone back already."""

_ASIDE = f"""
UPDATE work w SET state = 0, start_by = NULL, unknown_at = NULL, faults = w.faults + 1, cohort = NULL,
       due_at = least(greatest(now() + a.wait, CASE WHEN w.chain IS NOT NULL AND NOT w.awaiting THEN a.receipt_by END),
                      w.expires_at),
       falls_back_at = {bound_of("w")} + a.wait,
       awaiting = w.awaiting OR a.came IS NOT NULL,
       receipt = CASE WHEN a.came IS NULL OR w.awaiting THEN w.receipt ELSE nullif(a.came, 'sent') END
FROM (SELECT r.tid, x.wait, x.came, d.sent_at + m.after AS receipt_by
      FROM unnest($1::uuid[], $2::smallint[], $3::interval[], $4::text[]) x(id, n, wait, came)
      JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = x.id AND n = x.n OFFSET 0) r ON true
      LEFT JOIN LATERAL (SELECT sent_at FROM delivery WHERE x.came IS NOT NULL AND notification_id = x.id AND n = x.n
                         OFFSET 0) d ON true
      LEFT JOIN LATERAL (SELECT {FALLBACK_AFTER} AS after FROM notification WHERE x.came IS NOT NULL AND id = x.id
                         OFFSET 0) m ON true) a
WHERE w.ctid = a.tid"""
"""Out of its cohort: that one's next epoch, or its next turn, may well be driven by the same process again. Its chain waits
for us meanwhile, and not for its account. What an earlier attempt has brought meanwhile is not sent again, and its chain
waits for its receipt, as in `giving_back`."""

_END = """
DELETE FROM work WHERE ctid = ANY (ARRAY(
    SELECT w.tid FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
    JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = x.id AND n = x.n OFFSET 0) w ON true))"""

_RECORD = f"""
INSERT INTO delivery AS d (notification_id, n, tenant, channel, account, address, status, reason, class)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[])
ON CONFLICT (notification_id, n) DO UPDATE SET status = {END_STATUS}, reason = {END_REASON}, updated_at = now()
WHERE d.status = 'retrying'"""
"""What an earlier attempt has brought stands. The class says that something was handed over, which no edit may forget."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that this version cannot claim or read, in the attempt in which it was seen."""

    notification_id: UUID
    n: int
    attempt: int
    faults: int
    """As it was seen with."""
    code: str
    """The type of the error."""


async def set_aside(pool: asyncpg.Pool, rows: Sequence[Unreadable], *, sent: bool = False) -> None:
    """Put each off for others, or end it; safe to repeat: what has gone on since is left alone. Raises Held for those
    that somebody keeps locked; all others are done.

    `sent`: they were handed over and their outcome was lost; only those whose time is over are ended, as unknown.
    """
    codes = {(r.notification_id, r.n): r.code for r in rows}

    async def unit(connection: Connection, ids: Sequence[UUID]) -> None:
        free = set(ids)
        mine = [r for r in rows if r.notification_id in free]
        cancelled = await lock_notifications(connection, ids)
        found = await connection.fetch(
            _LOOK, [r.notification_id for r in mine], [r.n for r in mine], [r.attempt for r in mine],
            [r.faults for r in mine],
        )  # fmt: skip
        aimed = await satisfied(connection, [] if sent else sorted({row["notification_id"] for row in found}))
        decided = [
            (row, _lost(row) if sent else _decide(row, cancelled=row["notification_id"] in cancelled, aimed=aimed))
            for row in found
        ]  # fmt: skip
        waiting = [(row, a.wait) for row, a in decided if a.wait is not None]
        ending = [(row, a) for row, a in decided if a.status is not None]
        if waiting:
            await connection.execute(
                _ASIDE, [r["notification_id"] for r, _ in waiting], [r["n"] for r, _ in waiting],
                [w for _, w in waiting], [r["came"] for r, _ in waiting],
            )  # fmt: skip
        if ending:
            await _end(connection, ending, codes=codes)

    if rows:
        _, held = await over_free(pool, sorted({i for i, _ in codes}), unit)
        if held:
            raise Held(held)


def _lost(row: asyncpg.Record) -> Aside:
    over = row["expired"] and row["state"] == WorkState.IN_HAND
    return Aside(status=Status.UNKNOWN, reason=Reason.ANSWER_LOST) if over else Aside()


def _decide(row: asyncpg.Record, *, cancelled: bool, aimed: Collection[UUID]) -> Aside:
    """`aimed`: notifications whose chain has come to its aim. A step that was handed over before waits to be looked at."""
    elsewhere = row["notification_id"] in aimed and not row["awaiting"] and row["came"] is None
    return aside(
        faults=row["faults"], attempt=row["attempt"], expired=row["expired"], cancelled=cancelled, elsewhere=elsewhere
    )


async def _end(
    connection: Connection, ending: Sequence[tuple[asyncpg.Record, Aside]], *, codes: dict[tuple[UUID, int], str]
) -> None:
    """Its chain ends with it: what would follow cannot be read either, or hangs on what cannot."""
    ids, ns = [row["notification_id"] for row, _ in ending], [row["n"] for row, _ in ending]
    await connection.execute(_END, ids, ns)
    await connection.execute(
        _RECORD, ids, ns, [r["tenant"] for r, _ in ending], [r["channel"] for r, _ in ending],
        [r["account"] for r, _ in ending], [r["address"] for r, _ in ending], [a.status for _, a in ending],
        [a.reason for _, a in ending],
        [ResultClass.UNKNOWN if a.status is Status.UNKNOWN else None for _, a in ending],
    )  # fmt: skip
    await keep_lost(connection, {
        (r["notification_id"], r["n"]): (*lost_of(r["lost"]), LostAttempt(r["attempt"], r["account"]))
        for r, a in ending if a.status is Status.UNKNOWN
    })  # fmt: skip
    await write_events(connection, [
        Entry(r["notification_id"], r["n"], event)
        for r, a in ending for event in _told(r, a, codes[r["notification_id"], r["n"]])
    ])  # fmt: skip
    await decide_ends(connection, sorted(set(ids)))


def _told(row: asyncpg.Record, ended: Aside, code: str) -> Iterator[TimelineEvent]:
    channel, lost = row["channel"], lost_of(row["lost"])
    if ended.reason is Reason.QUARANTINED or ended.status is Status.UNKNOWN:
        yield TimelineEvent(EventType.QUARANTINED, {"channel": channel, "code": code})
    else:
        kind = EventType.EXPIRED if ended.status is Status.EXPIRED else EventType.SUPPRESSED
        yield TimelineEvent(kind, {"channel": channel, "reason": ended.reason, "stage": Stage.HAND_OVER})
    if lost and ended.status is not Status.UNKNOWN and ended.reason is not None:
        yield still_unknown(channel, lost, because=ended.reason)
