"""The places of a chain: what follows no more because it arrived, and what goes on because it did not arrive after all.

A step that ends as sent or unknown with places left leaves behind what its open row knew (`delivery.rest`). A receipt that
says later that it failed puts that row back, as it would stand had it waited for the receipt: whoever claims it chooses
another account or the next place, with all that is checked anew at a claim. `rest` goes when its row comes back, with a
cancellation, and when the recipient is erased.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import msgspec

from domain.results import ResultClass
from domain.states import Reason, Status
from domain.timeline import EventType, Stage
from infra.postgres.engine.locks import Connection
from infra.postgres.engine.lost_attempts import END_REASON, END_STATUS
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

StepKey = tuple[UUID, int]

_STOP_OTHERS = """
DELETE FROM work WHERE ctid = ANY (ARRAY(
    SELECT w.tid FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
    JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = x.id AND n > 0 AND n <> x.n AND state = 0
                  OFFSET 0) w ON true))
RETURNING notification_id, n, tenant, channel, account, address, attempt"""

_STOP_THESE = _STOP_OTHERS.replace("n > 0 AND n <> x.n", "n = x.n").replace(
    "address, attempt", "address, attempt - 1 AS attempt"
)
"""By the last claim of each nothing was handed over."""

_RECORD_STOPPED = f"""
INSERT INTO delivery AS d (notification_id, n, tenant, channel, account, address, status, reason, attempts)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::smallint[])
ON CONFLICT (notification_id, n) DO UPDATE SET status = {END_STATUS}, reason = {END_REASON}, updated_at = now()
WHERE d.status NOT IN ('sent', 'delivered', 'read', 'unknown')"""

_SATISFIED = """
SELECT x.id FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT options FROM notification WHERE id = x.id AND strategy <> 'all' OFFSET 0) m ON true
JOIN LATERAL (SELECT max(CASE status WHEN 'read' THEN 2 WHEN 'delivered' THEN 1 END) AS came FROM delivery
              WHERE notification_id = x.id OFFSET 0) d ON true
WHERE d.came >= CASE WHEN m.options ->> 'fallback_on' = 'not_read' THEN 2 ELSE 1 END"""

_CHAINED = """
SELECT x.id, x.n FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
JOIN LATERAL (SELECT FROM notification WHERE id = x.id AND strategy <> 'all' OFFSET 0) m ON true"""

_LEAVE = """
UPDATE delivery d SET rest = c.rest
FROM unnest($3::uuid[], $4::smallint[], $5::json[]) c(id, n, rest)
WHERE d.notification_id = c.id AND d.n = c.n AND d.notification_id = ANY ($3) AND d.notification_id BETWEEN $1 AND $2"""

_FORGET = """
UPDATE delivery SET rest = NULL
WHERE notification_id = ANY ($3) AND notification_id BETWEEN $1 AND $2 AND rest IS NOT NULL"""

_RESUMABLE = """
SELECT x.id, x.n FROM unnest($1::uuid[], $2::smallint[]) x(id, n)
JOIN LATERAL (SELECT cancelled_at, expires_at FROM notification WHERE id = x.id OFFSET 0) m
     ON m.cancelled_at IS NULL AND m.expires_at > now()
WHERE NOT EXISTS (SELECT FROM work WHERE notification_id = x.id OFFSET 0)
  AND NOT EXISTS (SELECT FROM event WHERE notification_id = x.id AND type = 'resent' OFFSET 0)"""
"""What was sent anew, by a person, does not go on by itself beside that."""

_RESUME = """
INSERT INTO work (notification_id, n, tenant, lane, channel, account, address, locale, chain, due_at, expires_at, attempt,
                  failures, version, tried, awaiting, receipt)
SELECT x.id, x.n, d.tenant, m.lane, d.channel, d.account, d.address, d.rest ->> 'locale', d.rest -> 'chain', now(),
       m.expires_at, (d.rest ->> 'attempt')::smallint, (d.rest ->> 'failures')::smallint, m.version,
       string_to_array(d.rest ->> 'tried', E'\\n'), true, x.receipt
FROM unnest($1::uuid[], $2::smallint[], $3::text[]) x(id, n, receipt)
JOIN LATERAL (SELECT tenant, channel, account, address, rest FROM delivery WHERE notification_id = x.id AND n = x.n
              OFFSET 0) d ON d.rest IS NOT NULL
JOIN LATERAL (SELECT lane, expires_at, version FROM notification WHERE id = x.id OFFSET 0) m ON true
ON CONFLICT DO NOTHING
RETURNING notification_id, n, channel, chain"""
"""`attempt` goes on where it was: the number of a claim is never used twice."""

_REOPEN = """
UPDATE notification SET status = 'accepted', reason = NULL, partial = false, final = false, finished_at = NULL
WHERE id = ANY ($3) AND id BETWEEN $1 AND $2"""

_REOPEN_CARRIED = """
UPDATE notification SET status = 'collected', reason = NULL, partial = false, final = false, finished_at = NULL
WHERE digest = ANY ($1::uuid[]) AND digest <> id"""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What an ended step leaves behind, for the case that it did not arrive."""

    chain: str
    """As in `work.chain`."""
    attempt: int
    """The number of the step's last claim."""
    locale: str | None
    failures: int
    tried: Sequence[str]

    def stored(self) -> str:
        kept = {"chain": msgspec.Raw(self.chain.encode()), "attempt": self.attempt, "locale": self.locale,
                "failures": self.failures, "tried": "\n".join(self.tried) or None}  # fmt: skip
        return msgspec.json.encode(kept).decode()


async def leave_rest(connection: Connection, rests: Mapping[StepKey, ResumePoint | None]) -> None:
    """These steps end here; those with a rest have places left. Their records are there."""
    left = [(key, rest.stored()) for key, rest in rests.items() if rest is not None]
    if left:
        ids = [key[0] for key, _ in left]
        await connection.execute(_LEAVE, min(ids), max(ids), ids, [n for (_, n), _ in left], [rest for _, rest in left])


async def forget_rest(connection: Connection, ids: Sequence[UUID]) -> None:
    """Whatever is reported of these later, nothing follows."""
    if ids:
        await connection.execute(_FORGET, min(ids), max(ids), ids)


async def resumable(connection: Connection, steps: Sequence[StepKey]) -> set[StepKey]:
    """Those of these ended steps whose chain may go on: nothing is open, nobody has stopped it or sent it anew, it has not
    expired, and it has not come to its aim on another channel."""
    if not steps:
        return set()
    aimed = await satisfied(connection, sorted({i for i, _ in steps}))
    rows = await connection.fetch(_RESUMABLE, [i for i, _ in steps], [n for _, n in steps])
    return {(row["id"], row["n"]) for row in rows if row["id"] not in aimed}


async def resume(connection: Connection, failed: Sequence[tuple[StepKey, ResultClass]]) -> None:
    """These have failed, as their receipts say, after they had ended: their rows are back, due at once, and the
    notifications are not at their end any more. The caller holds the locks, and has asked `resumable`."""
    if not failed:
        return
    rows = await connection.fetch(
        _RESUME, [key[0] for key, _ in failed], [key[1] for key, _ in failed], [result for _, result in failed]
    )
    ids = sorted({row["notification_id"] for row in rows})
    if not ids:
        return
    await forget_rest(connection, ids)
    await reopen(connection, ids)
    details = [
        {"channel": row["channel"], "chain": [place[1] for place in msgspec.json.decode(row["chain"])]} for row in rows
    ]
    events = [TimelineEvent(EventType.RESUMED, detail) for detail in details]
    await write_events(
        connection, [Entry(row["notification_id"], row["n"], e) for row, e in zip(rows, events, strict=True)]
    )


async def reopen(connection: Connection, ids: Sequence[UUID]) -> None:
    """These notifications, in order, are not at their end any more, nor is what they carry."""
    await connection.execute(_REOPEN, ids[0], ids[-1], ids)
    await connection.execute(_REOPEN_CARRIED, ids)


async def stop_other_steps(connection: Connection, arrived: Sequence[StepKey]) -> None:
    """It arrived over one channel of a chain: what waits on the others is not sent any more."""
    if not arrived:
        return
    gone = await connection.fetch(_STOP_OTHERS, [i for i, _ in arrived], [n for _, n in arrived])
    await _record_stopped(connection, gone, stage="receipt")


async def stop_satisfied(connection: Connection, steps: Sequence[StepKey]) -> list[UUID]:
    """These came back unsent, and a receipt may have come since they were claimed: whose chain has come to its aim ends.
    Returns the notifications of those that did; the caller holds the locks, and decides the ends."""
    aimed = await satisfied(connection, sorted({i for i, _ in steps}))
    if not aimed:
        return []
    stopping = [step for step in steps if step[0] in aimed]
    gone = await connection.fetch(_STOP_THESE, [i for i, _ in stopping], [n for _, n in stopping])
    await _record_stopped(connection, gone, stage=Stage.HAND_OVER)
    return sorted({row["notification_id"] for row in gone})


async def _record_stopped(connection: Connection, gone: Sequence[asyncpg.Record], *, stage: str) -> None:
    if gone:
        await connection.execute(
            _RECORD_STOPPED, [r["notification_id"] for r in gone], [r["n"] for r in gone], [r["tenant"] for r in gone],
            [r["channel"] for r in gone], [r["account"] for r in gone], [r["address"] for r in gone],
            [Status.SUPPRESSED] * len(gone), [Reason.ARRIVED_ELSEWHERE] * len(gone), [r["attempt"] for r in gone],
        )  # fmt: skip
        detail = {"reason": Reason.ARRIVED_ELSEWHERE, "stage": stage}
        events = [TimelineEvent(EventType.SUPPRESSED, {"channel": r["channel"], **detail}) for r in gone]
        await write_events(connection, [Entry(r["notification_id"], r["n"], e) for r, e in zip(gone, events, strict=True)])


async def chained(connection: Connection, steps: Sequence[StepKey]) -> list[StepKey]:
    """Those of `steps` that are places of a chain."""
    if not steps:
        return []
    rows = await connection.fetch(_CHAINED, [i for i, _ in steps], [n for _, n in steps])
    return [(row["id"], row["n"]) for row in rows]


async def satisfied(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of `ids` whose chain has come to its aim on some channel: nothing may follow any more."""
    if not ids:
        return set()
    return {row["id"] for row in await connection.fetch(_SATISFIED, ids)}
