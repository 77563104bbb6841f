"""Claims that were called lost, and of which whoever had them says later that nothing was handed over.

He was held up before he could give them back: by somebody's lock, by an outage of his own, frozen. Then the attempt is none
that may have arrived, and the step goes on as if it had gone back in time (docs/decisions/0048): a resend that waits is
due, as no try at all; a step that had ended as unknown is open again, out of what it left behind (`delivery.rest`), and
whoever claims it looks at everything anew. It does not go on after a cancellation or an erasure, which take `rest` away,
beside what a person has sent anew, or where its chain has gone on: then it has failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from domain.lost import without
from domain.timeline import EventType
from domain.work_row import WorkState
from infra.postgres.engine.account_queue import STAYS
from infra.postgres.engine.chains import reopen, satisfied
from infra.postgres.engine.clock_steps import FALLBACK_AFTER
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection
from infra.postgres.engine.lost_attempts import keep_lost, lost_of
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

_CALLED_LOST = """
SELECT x.id, x.n, x.attempt, d.lost, d.channel, w.state, w.attempt AS claimed, w.awaiting
FROM unnest($1::uuid[], $2::smallint[], $3::smallint[]) x(id, n, attempt)
JOIN LATERAL (SELECT lost, channel FROM delivery WHERE notification_id = x.id AND n = x.n AND lost IS NOT NULL
              OFFSET 0) d ON true
LEFT JOIN LATERAL (SELECT state, attempt, awaiting FROM work WHERE notification_id = x.id AND n = x.n FOR UPDATE) w ON true
ORDER BY x.id, x.n, x.attempt"""

_NO_TRY = f"""
UPDATE work w SET due_at = least(now() + b.wait, w.expires_at, b.bound), failures = greatest(w.failures - 1, 0),
       falls_back_at = b.bound, cohort = NULL
FROM (SELECT r.tid, x.wait, CASE WHEN r.goes_on THEN now() + m.after END AS bound
      FROM unnest($1::uuid[], $2::smallint[], $3::interval[]) x(id, n, wait)
      JOIN LATERAL (SELECT ctid AS tid, chain IS NOT NULL AND NOT {STAYS} AS goes_on FROM work
                    WHERE notification_id = x.id AND n = x.n OFFSET 0) r ON true
      JOIN LATERAL (SELECT {FALLBACK_AFTER} AS after FROM notification WHERE id = x.id OFFSET 0) m ON true) b
WHERE w.ctid = b.tid"""
"""Its chain waits as after any answer: where another attempt was lost, and must not come twice, it goes on no more."""

_OPEN_AGAIN = f"""
INSERT INTO work (notification_id, n, tenant, lane, channel, account, address, locale, chain, due_at, expires_at, attempt,
                  failures, version, tried, falls_back_at)
SELECT x.id, x.n, d.tenant, m.lane, d.channel, d.account, d.address, d.rest ->> 'locale', c.chain,
       least(now() + x.wait, m.expires_at, c.bound), m.expires_at, (d.rest ->> 'attempt')::smallint,
       (d.rest ->> 'failures')::smallint, m.version, string_to_array(d.rest ->> 'tried', E'\\n'), c.bound
FROM unnest($1::uuid[], $2::smallint[], $3::interval[]) x(id, n, wait)
JOIN LATERAL (SELECT tenant, channel, account, address, rest FROM delivery
              WHERE notification_id = x.id AND n = x.n AND status = 'unknown' AND lost IS NULL AND rest IS NOT NULL
              OFFSET 0) d ON true
JOIN LATERAL (SELECT lane, expires_at, version, {FALLBACK_AFTER} AS after FROM notification WHERE id = x.id
              OFFSET 0) m ON true
LEFT JOIN LATERAL (SELECT d.rest -> 'chain' AS chain, now() + m.after AS bound
                   WHERE json_array_length(d.rest -> 'chain') > 0) c ON true
WHERE NOT EXISTS (SELECT FROM event WHERE notification_id = x.id AND type = 'resent' OFFSET 0)
ON CONFLICT DO NOTHING
RETURNING notification_id, n"""
"""`attempt` goes on where it was: the number of a claim is never used twice. Its place in a chain has its time anew."""

_RETRYING = """
UPDATE delivery d SET status = 'retrying', reason = NULL, rest = NULL, updated_at = now()
FROM unnest($3::uuid[], $4::smallint[]) c(id, n)
WHERE d.notification_id = c.id AND d.n = c.n AND d.notification_id = ANY ($3) AND d.notification_id BETWEEN $1 AND $2"""

_FAILED = """
UPDATE delivery d SET status = 'failed', rest = NULL, updated_at = now()
FROM unnest($3::uuid[], $4::smallint[]) c(id, n)
WHERE d.notification_id = c.id AND d.n = c.n AND d.notification_id = ANY ($3) AND d.notification_id BETWEEN $1 AND $2
  AND d.status = 'unknown' AND d.lost IS NULL"""

_NOT_MADE = """
UPDATE delivery d SET
    class = CASE WHEN d.lost IS NOT NULL THEN d.class WHEN greatest(d.attempts, c.attempt) > 1 THEN 'RETRY' END,
    code = CASE WHEN d.lost IS NOT NULL THEN d.code END,
    attempts = CASE WHEN d.attempts = c.attempt AND d.status = 'retrying' THEN c.attempt - 1 ELSE d.attempts END
FROM unnest($3::uuid[], $4::smallint[], $5::smallint[]) c(id, n, attempt)
WHERE d.notification_id = c.id AND d.n = c.n AND d.notification_id = ANY ($3) AND d.notification_id BETWEEN $1 AND $2
  AND d.class = 'UNKNOWN'"""
"""The class says that something was handed over, and may be there: to a digest that is to be handed on, and to an edit. One
that failed before it is the last that was. Of a step that goes on no more the number stays: the next claim has another."""


class NotBegun(NamedTuple):
    """An attempt by which nothing was handed over."""

    notification_id: UUID
    n: int
    attempt: int
    wait: timedelta = timedelta(0)
    """It is to be due after this."""


async def take_back_loss(connection: Connection, claims: Sequence[NotBegun]) -> None:
    """Those of these that were called lost were not. The caller holds their notifications' locks. Safe to repeat: each is
    taken back once."""
    if not claims:
        return
    waits = {claim[:3]: claim.wait for claim in claims}
    rows = await connection.fetch(
        _CALLED_LOST, [c.notification_id for c in claims], [c.n for c in claims], [c.attempt for c in claims]
    )
    told, waiting, ended, last = list[Entry](), list[NotBegun](), list[NotBegun](), dict[tuple[UUID, int], NotBegun]()
    left = {(row["id"], row["n"]): lost_of(row["lost"]) for row in rows}
    known = dict(left)
    for row in rows:
        step, attempt = (row["id"], row["n"]), row["attempt"]
        if all(one.attempt != attempt for one in left[step]):
            continue
        left[step] = without(left[step], attempt)
        claim = last[step] = NotBegun(*step, attempt, waits[(*step, attempt)])
        told.append(Entry(*step, TimelineEvent(EventType.GIVEN_BACK, {"attempt": attempt, "channel": row["channel"]})))
        if row["state"] is None:
            ended.append(claim)
        elif row["state"] == WorkState.OPEN and row["claimed"] == attempt and not row["awaiting"]:
            waiting.append(claim)
    await keep_lost(connection, {step: lost for step, lost in left.items() if lost != known[step]})
    await write_events(connection, told)
    if waiting:
        await connection.execute(_NO_TRY, *_columns(waiting))
    await open_again(connection, ended)
    await not_made(connection, list(last.values()))
    await decide_ends(connection, sorted({claim.notification_id for claim in ended}))


async def open_again(connection: Connection, claims: Sequence[NotBegun]) -> None:
    """Those of these whose steps have ended as unknown, and of which nothing may have arrived after all, are open again, or
    have failed. The caller holds the locks, has kept what may have arrived, and decides the ends."""
    if not claims:
        return
    ids, ns, _ = _columns(claims)
    aimed = await satisfied(connection, sorted(set(ids)))
    going_on = [claim for claim in claims if claim.notification_id not in aimed]
    rows = await connection.fetch(_OPEN_AGAIN, *_columns(going_on)) if going_on else []
    opened = sorted({row["notification_id"] for row in rows})
    if opened:
        keys = [row["notification_id"] for row in rows], [row["n"] for row in rows]
        await connection.execute(_RETRYING, opened[0], opened[-1], *keys)
        await reopen(connection, opened)
    await connection.execute(_FAILED, min(ids), max(ids), ids, ns)


async def not_made(connection: Connection, claims: Sequence[NotBegun]) -> None:
    """The records of these, of each step its last one, say so; `open_again` has judged what goes on. The caller decides the
    ends after it, because what a carrier hands on hangs on it."""
    if claims:
        ids, ns, _ = _columns(claims)
        await connection.execute(_NOT_MADE, min(ids), max(ids), ids, ns, [c.attempt for c in claims])


def _columns(claims: Sequence[NotBegun]) -> tuple[list[UUID], list[int], list[timedelta]]:
    return [c.notification_id for c in claims], [c.n for c in claims], [c.wait for c in claims]
