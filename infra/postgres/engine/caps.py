"""Frequency caps at the plan: the room that is left is judged under a lock of the person's preferences.

Two plans for one person otherwise both find the last place free. The lock is taken after those of the notifications, in
the order of persons; users without caps cost nothing here. What is counted is what became of the steps: one that ended
without being sent gives its place back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from domain.caps import Capped, Use
from domain.planning import Plan
from domain.preferences import LONGEST_WINDOW
from infra.postgres.columns import columns
from infra.postgres.engine.locks import Connection

PersonKey = tuple[str, str]
"""(tenant, person)"""
Taken = tuple[PersonKey, Use]

KEPT = LONGEST_WINDOW + timedelta(days=1)

_LOCK = """
SELECT x.id FROM unnest($2::uuid[], $3::text[], $4::text[]) x(id, tenant, person)
JOIN LATERAL (SELECT 1 FROM work WHERE notification_id = x.id AND n = 0 AND state = 0 AND cohort = $1 OFFSET 0) w ON true
JOIN LATERAL (SELECT 1 FROM preference WHERE tenant = x.tenant AND person_id = x.person OFFSET 0 FOR UPDATE) p ON true"""
"""Those that are still to be planned; what another attempt has planned meanwhile takes no second place."""

_USES = """
SELECT x.tenant, x.person, u.notification_id, u.n, u.channel, u.category, u.at
FROM unnest($1::text[], $2::text[]) x(tenant, person)
JOIN LATERAL (SELECT * FROM cap_use WHERE tenant = x.tenant AND person_id = x.person AND at > now() - $3::interval
              OFFSET 0) u ON true
LEFT JOIN LATERAL (SELECT final FROM notification WHERE id = u.notification_id OFFSET 0) n ON true
LEFT JOIN LATERAL (SELECT status FROM delivery WHERE notification_id = u.notification_id AND n = u.n OFFSET 0) d ON true
WHERE CASE WHEN d.status IS NULL THEN n.final IS NOT TRUE
           ELSE d.status NOT IN ('failed', 'expired', 'cancelled', 'suppressed') END"""
"""A step without a record counts until its notification has ended: it waits, or is a place of a chain."""

_TAKE = """
INSERT INTO cap_use (tenant, person_id, notification_id, n, channel, category, at)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::smallint[], $5::text[], $6::text[], $7::timestamptz[])
ON CONFLICT (tenant, person_id, notification_id, n) DO UPDATE SET at = EXCLUDED.at, category = EXCLUDED.category"""

_FORGET = """
DELETE FROM cap_use WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM cap_use WHERE at < now() - $1::interval ORDER BY at LIMIT $2))"""


async def within_caps(
    connection: Connection, cohort: UUID, *, plans: Mapping[UUID, Plan], capped: Sequence[tuple[PersonKey, Capped]]
) -> tuple[dict[UUID, Plan], list[Taken]]:
    """The plans of `capped` without the steps for which there is no room, and what they take. The caller holds the
    notifications' locks; those of the persons are held from here to the end of the transaction."""
    capped = sorted(capped, key=lambda pair: (pair[0], pair[1].at, pair[1].notification_id))
    columns = [c.notification_id for _, c in capped], [p[0] for p, _ in capped], [p[1] for p, _ in capped]
    live = {row["id"] for row in await connection.fetch(_LOCK, cohort, *columns)}
    capped = [(person, one) for person, one in capped if one.notification_id in live]
    uses = await _uses(connection, list(dict.fromkeys(person for person, _ in capped)))
    fitted: dict[UUID, Plan] = {}
    taken: list[Taken] = []
    for person, one in capped:
        plan = fitted[one.notification_id] = one.room(plans[one.notification_id], uses=uses[person])
        uses[person] = [use for use in uses[person] if use.notification_id != one.notification_id] + one.uses(plan)
        taken += [(person, use) for use in one.uses(plan)]
    return fitted, taken


async def _uses(connection: Connection, persons: Sequence[PersonKey]) -> defaultdict[PersonKey, list[Use]]:
    """A statement of its own: only a fresh snapshot sees what the lock's former holder has taken."""
    found: defaultdict[PersonKey, list[Use]] = defaultdict(list)
    if persons:
        rows = await connection.fetch(_USES, [t for t, _ in persons], [p for _, p in persons], KEPT)
        for row in rows:
            use = Use(row["notification_id"], row["n"], row["channel"], row["category"], row["at"])
            found[row["tenant"], row["person"]].append(use)
    return found


async def take(connection: Connection, taken: Sequence[Taken]) -> None:
    """Record these places."""
    rows = [(*person, u.notification_id, u.n, u.channel, u.category, u.at) for person, u in taken]
    if rows:
        await connection.execute(_TAKE, *columns(rows))


class CapRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def forget(self, *, limit: int) -> int:
        """Delete at most `limit` places that no window reaches back to, oldest first; returns how many."""
        status: str = await self._pool.execute(_FORGET, KEPT, limit)
        return int(status.split()[-1])
