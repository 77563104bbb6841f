"""Claims that go back unsent: not a byte of the message has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from infra.postgres.columns import columns
from infra.postgres.engine.account_queue import bound_of
from infra.postgres.engine.chains import stop_satisfied
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection, Held, HeldLately, lock_notifications, over_free
from infra.postgres.engine.lost_attempts import arrived
from infra.postgres.engine.never_left import NotBegun, take_back_loss

_BOUND = bound_of("w")
_WAIT = f"least(now() + b.wait, CASE WHEN {_BOUND} > now() AND NOT w.awaiting THEN {_BOUND} END)"
"""No longer than until its chain goes on; then whoever looks finds that it has waited for long enough."""
_GIVE_BACK = f"""
UPDATE work w SET state = 0, start_by = NULL, unknown_at = NULL, faults = w.faults + b.faults,
       falls_back_at = {_BOUND},
       due_at = least(greatest({_WAIT}, CASE WHEN NOT w.awaiting THEN b.sent_at + b.within END),
                      w.expires_at),
       awaiting = w.awaiting OR b.came IS NOT NULL,
       receipt = CASE WHEN b.came IS NULL OR w.awaiting THEN w.receipt ELSE nullif(b.came, 'sent') END
FROM (SELECT r.tid, g.faults, g.wait, d.came, d.sent_at, CASE d.came WHEN 'sent' THEN g.sent ELSE g.delivered END AS within
      FROM unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::smallint[], $5::interval[], $6::interval[],
                  $7::interval[]) g(id, n, attempt, faults, wait, sent, delivered)
      JOIN LATERAL (SELECT ctid AS tid, receipt FROM work WHERE notification_id = g.id AND n = g.n AND attempt = g.attempt
                    OFFSET 0) r ON true
      LEFT JOIN LATERAL (
          SELECT {arrived("r")} AS came, sent_at
          FROM delivery WHERE notification_id = g.id AND n = g.n OFFSET 0) d ON true) b
WHERE w.ctid = b.tid AND w.state = 1 RETURNING w.notification_id, w.n, w.attempt, w.awaiting"""
"""An earlier attempt that was called lost may have arrived since this one was claimed: then this one is not sent again. Its
row waits for the earlier one's receipt as long as that one's own would have, and ends in its turn.

Failover after a missing receipt (`receipt` is OK, `Recording.on_top`): the record has said `sent` for the first message all
along, so that is no reason to keep this one back. `delivered` is one.
"""


@dataclass(frozen=True, slots=True)
class Returned:
    """A claim given back unsent."""

    notification_id: UUID
    n: int
    attempt: int
    faults: int = 0
    wait: timedelta = timedelta(0)
    receipt_within: timedelta | None = None
    """How long the receipt of an earlier attempt is waited for, if that was sent after all; None: it is not."""
    read_within: timedelta | None = None
    """The same if it was delivered: for its being read."""
    chained: bool = True
    """It may be a place of a chain; then it is looked whether that has come to its aim meanwhile."""


async def give_back(pool: asyncpg.Pool, claims: Sequence[Returned], *, lately: HeldLately | None = None) -> None:
    """Safe to repeat: what has gone on since, in another attempt, is left alone, but that this one was lost is taken back
    (`never_left`). A place of a chain that has come to its aim meanwhile goes back to nobody: it ends. Raises Held for
    those that did not go back; all others did."""

    async def unit(connection: Connection, ids: Sequence[UUID]) -> None:
        free = set(ids)
        rows = [
            (c.notification_id, c.n, c.attempt, c.faults, c.wait, c.receipt_within, c.read_within)
            for c in claims
            if c.notification_id in free
        ]
        cancelled = await lock_notifications(connection, ids)
        if rows:
            fetched = await connection.fetch(_GIVE_BACK, *columns(rows))
            back = {(row["notification_id"], row["n"], row["attempt"]) for row in fetched}
            gone = [c for c in claims if c.notification_id in free and (c.notification_id, c.n, c.attempt) not in back]
            await take_back_loss(connection, [NotBegun(c.notification_id, c.n, c.attempt, c.wait) for c in gone])
            sent_in_turn = {(row["notification_id"], row["n"]) for row in fetched if not row["awaiting"]}
            places = {(c.notification_id, c.n) for c in claims if c.chained and c.notification_id not in cancelled}
            await decide_ends(connection, await stop_satisfied(connection, sorted(places & sent_in_turn)))

    if claims:
        _, held = await over_free(pool, sorted({c.notification_id for c in claims}), unit, lately=lately)
        if held:
            raise Held(held)
