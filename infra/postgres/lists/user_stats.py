"""Figures about one user's notifications, counted by the index on (tenant, user, id); a bounded number of the newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from domain.errors import NotFound
from infra.postgres.lists.id_bounds import id_bounds
from infra.postgres.lists.ways import SHOWN

MOST_COUNTED = 20_000
"""What one question may cost: so many look-ups in `delivery`."""

_USER = "SELECT true FROM person WHERE tenant = $1 AND id = $2"

_COUNT = f"""
WITH mine AS MATERIALIZED (
    SELECT n.id, n.category, n.accepted_at, {SHOWN} AS status FROM notification n
    WHERE n.tenant = $1 AND n.user_id = $2 AND n.id >= $3 AND n.id < $4 AND n.deleted_at IS NULL
      AND ($5::timestamptz IS NULL OR n.accepted_at >= $5) AND ($6::timestamptz IS NULL OR n.accepted_at < $6)
    ORDER BY n.id DESC LIMIT $7)
SELECT 'status' AS kind, status AS name, NULL AS state, count(*) AS number, min(accepted_at) AS first,
       max(accepted_at) AS last
FROM mine GROUP BY status
UNION ALL
SELECT 'category', category, NULL, count(*), NULL, NULL FROM mine GROUP BY category
UNION ALL
SELECT 'channel', d.channel, d.status, count(*), NULL, NULL
FROM mine m JOIN LATERAL (SELECT channel, status FROM delivery WHERE notification_id = m.id OFFSET 0) d ON true
GROUP BY d.channel, d.status
ORDER BY 1, 2, 3"""


@dataclass(frozen=True, slots=True)
class UserStats:
    total: int
    complete: bool
    """False: there may be more, and the newest `MOST_COUNTED` were counted."""
    by_status: Mapping[str, int]
    by_category: Mapping[str, int]
    by_channel: Mapping[str, Mapping[str, int]]
    """Of recorded deliveries: channel -> status -> number."""
    first_at: datetime | None
    last_at: datetime | None


class UserStatsReader:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def read(self, tenant: str, user_id: str, *, since: datetime | None, until: datetime | None) -> UserStats:
        """`since` is inclusive, `until` is not. Raises NotFound."""
        if not await self._pool.fetchval(_USER, tenant, user_id):
            raise NotFound("There is no user with this id.")
        bounds = id_bounds(since, until)
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")  # weeks outside are left out
            rows = await connection.fetch(
                _COUNT, tenant, user_id, bounds.first, bounds.above, bounds.since, bounds.until, MOST_COUNTED
            )
        return _stats(rows)


def _stats(rows: list[asyncpg.Record]) -> UserStats:
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in ("status", "category", "channel")}
    channels: dict[str, dict[str, int]] = {}
    for row in of["channel"]:
        channels.setdefault(row["name"], {})[row["state"]] = row["number"]
    total = sum(row["number"] for row in of["status"])
    return UserStats(
        total=total,
        complete=total < MOST_COUNTED,
        by_status={row["name"]: row["number"] for row in of["status"]},
        by_category={row["name"]: row["number"] for row in of["category"]},
        by_channel=channels,
        first_at=min((row["first"] for row in of["status"]), default=None),
        last_at=max((row["last"] for row in of["status"]), default=None),
    )
