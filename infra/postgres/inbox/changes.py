"""What changed in inboxes since a snapshot: the live stream's question.

Neither ids nor times can be its cursor, because transactions commit in another order than they begin: a reader who
remembers the largest id it has seen misses the smaller one that commits later. Here the cursor is a `pg_snapshot`, what
PostgreSQL itself uses to say which transactions a statement sees: `changed_in` of each row is held against the snapshot of
the last answer, and what that one did not see is new. So a message goes out as soon as it is committed, even while some old
transaction stays open for hours, and nothing is skipped or repeated. Snapshots are compared on the primary only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from infra.postgres.database import Database
from infra.postgres.inbox.items import COLUMNS, InboxEntry

MAX_CHANGES = 500
"""Of one user in one answer. Whoever is further behind reads the list again instead."""

_SNAPSHOT = re.compile(r"[1-9][0-9]{0,18}:[1-9][0-9]{0,18}:([0-9]+(,[0-9]+)*)?")
_LONGEST_CURSOR = 1000

_OPEN = """
SELECT s.now::text AS now,
       (SELECT count(*) FROM inbox_item
        WHERE tenant = $1 AND user_id = $2 AND read_at IS NULL AND archived_at IS NULL AND recalled_at IS NULL) AS unread,
       pg_snapshot_xmax(CAST($3::text AS pg_snapshot)) <= pg_snapshot_xmax(s.now) AS past
FROM (SELECT pg_current_snapshot() AS now) s"""

_CHANGES = f"""
WITH watch AS MATERIALIZED (
    SELECT w.tenant, w.user_id, CAST(w.since AS pg_snapshot) AS since, w.place
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS w(tenant, user_id, since, place))
SELECT s.now::text AS now, y.*
FROM (SELECT pg_current_snapshot() AS now) s
LEFT JOIN (
    SELECT w.place, c.* FROM watch w
    CROSS JOIN LATERAL (
        SELECT {COLUMNS} FROM inbox_item i
        WHERE i.tenant = w.tenant AND i.user_id = w.user_id
          AND i.changed_in >= pg_snapshot_xmin(w.since) AND NOT pg_visible_in_snapshot(i.changed_in, w.since)
        ORDER BY i.changed_in, i.id
        LIMIT $4) c
) y ON true"""
"""One statement: rows and snapshot are of one moment. LATERAL with LIMIT leaves one plan, an index range a user."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One user's inbox, from a snapshot on."""

    tenant: str
    user_id: str
    since: str


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a stream begins."""

    since: str
    unread: int
    resumed: bool
    """False where no cursor was given, or the one given cannot be continued: the client has to read the list."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What is new for one watch."""

    entries: tuple[InboxEntry, ...]
    too_many: bool
    """There is more than `MAX_CHANGES`: nothing is listed, and the reader continues from `now` with the list."""


class InboxChanges:
    """Asks PostgreSQL; keeps nothing."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def open(self, tenant: str, user_id: str, *, cursor: str | None) -> Opening:
        """Begin at `cursor`, or now. One from the future (another cluster's, after a restore) cannot be continued."""
        known = cursor if cursor is not None and len(cursor) <= 4000 and _SNAPSHOT.fullmatch(cursor) else None
        try:
            row = await self._pool.fetchrow(_OPEN, tenant, user_id, known)
        except asyncpg.DataError:  # digits in the right places, but no snapshot
            known = None
            row = await self._pool.fetchrow(_OPEN, tenant, user_id, known)
        assert row is not None
        if known is None or not row["past"]:
            return Opening(row["now"], row["unread"], resumed=False)
        return Opening(known, row["unread"], resumed=True)

    async def since(self, watches: Sequence[Watch]) -> tuple[str, list[Changed]]:
        """The snapshot of this answer, and what each watch has not seen, in its order."""
        rows = await self._pool.fetch(
            _CHANGES,
            [w.tenant for w in watches],
            [w.user_id for w in watches],
            [w.since for w in watches],
            MAX_CHANGES + 1,
        )
        found: list[list[InboxEntry]] = [[] for _ in watches]
        for row in rows:
            if row["place"] is not None:
                found[row["place"] - 1].append(InboxEntry.of(row))
        return rows[0]["now"], [
            Changed((), too_many=True) if len(entries) > MAX_CHANGES else Changed(tuple(entries), too_many=False)
            for entries in found
        ]


def cursor_of(snapshot: str) -> str:
    """The snapshot as a stream's id. With very many open transactions only its safe part: everything below the oldest of
    them, so that a reconnect repeats a few items and still misses none.
    """
    if len(snapshot) <= _LONGEST_CURSOR:
        return snapshot
    oldest = snapshot.split(":", 1)[0]
    return f"{oldest}:{oldest}:"
