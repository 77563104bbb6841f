"""How notifications end: decided by `domain.outcome` over all deliveries, once no step is open."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain.states import DeliveryState, Outcome, Reason, Status, Strategy, outcome
from infra.postgres.engine.digests import share_ends
from infra.postgres.engine.locks import Connection

_CLOSED = """
SELECT n.id, n.strategy, n.status, n.reason, n.partial, n.final, n.digest, d.status AS d_status,
       d.reason AS d_reason, d.receipt_until IS NOT NULL AS d_receipt_due
FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT id, strategy, status, reason, partial, final, digest FROM notification WHERE id = x.id
              OFFSET 0) n ON true
JOIN LATERAL (SELECT status, reason, receipt_until FROM delivery WHERE notification_id = x.id OFFSET 0) d ON true
WHERE NOT EXISTS (SELECT FROM work w WHERE w.notification_id = x.id OFFSET 0)"""

_END = """
UPDATE notification n SET status = e.status, reason = e.reason, partial = e.partial, final = e.final,
       finished_at = CASE WHEN e.final THEN coalesce(n.finished_at, now()) END
FROM unnest($3::uuid[], $4::text[], $5::text[], $6::bool[], $7::bool[]) e(id, status, reason, partial, final)
WHERE n.id = e.id AND n.id = ANY ($3) AND n.id BETWEEN $1 AND $2"""


async def decide_ends(connection: Connection, ids: Sequence[UUID]) -> None:
    """End those of `ids` that have no open step, or correct their end. The caller holds their locks, and this runs as a
    statement of its own: only a fresh snapshot sees what a channel that ended in the same moment has written."""
    if not ids:
        return
    rows = await connection.fetch(_CLOSED, ids)
    known: dict[UUID, tuple[str, Outcome]] = {}
    states: dict[UUID, list[DeliveryState]] = {}
    for row in rows:
        known[row["id"]] = (row["strategy"], Outcome(Status(row["status"]), row["reason"], row["partial"], row["final"]))
        state = DeliveryState(Status(row["d_status"]), row["d_reason"], row["d_receipt_due"])
        states.setdefault(row["id"], []).append(state)
    ends = {i: outcome(states[i], strategy=Strategy(strategy)) for i, (strategy, _) in known.items()}
    changed = sorted(i for i, end in ends.items() if end != known[i][1])
    if changed:
        await connection.execute(
            _END, changed[0], changed[-1], changed, [ends[i].status for i in changed],
            [ends[i].reason for i in changed], [ends[i].partial for i in changed],
            [ends[i].final for i in changed],
        )  # fmt: skip
    carriers = {row["id"] for row in rows if row["digest"] == row["id"]}
    stopped = {i for i in carriers if any(_stopped(state) for state in states[i])}
    await share_ends(connection, {i: ends[i] for i in changed if i in carriers}, stopped=stopped)


def _stopped(state: DeliveryState) -> bool:
    return state.status is Status.EXPIRED or state.reason == Reason.CANCELLED_BY_REQUEST
