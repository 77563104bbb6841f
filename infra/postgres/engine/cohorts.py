"""Cohorts as rows: grouping what is due, leases, epochs, and the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from domain.cohorts import UNPLANNED, CohortEpoch
from domain.ids import uuid7
from domain.lanes import ADMISSION_LEASE, LEASE, POLICIES, STARTING_FOR, Lane, LanePolicy
from infra.postgres.async_commit import ASYNC_COMMIT
from infra.postgres.engine.due import TAKE_IN_TURN, TAKE_OF_ONE, tenants_due
from infra.postgres.engine.locks import Connection, retried

_BOUNDS = """
      AND (SELECT count(*) FROM cohort WHERE lane = $1 AND NOT holding) < $5
      AND (SELECT count(*) FROM cohort WHERE lane = $1 AND NOT begun AND created_at > now() - $7::interval) < $6"""
"""Each is counted by each grouper for itself, so a few at once may pass it by as many."""

_TAKING = """
      AND NOT EXISTS (SELECT FROM cohort WHERE lane = $1 AND takes_until > now() AND takes_until <= now() + $8::interval)"""
"""No cohort takes on. A `takes_until` further ahead than `ADMISSION_LEASE` is ignored: it was written before the clock was
set back."""

_MADE = f""",
made AS (
    INSERT INTO cohort (id, lane, tenant, epoch, size, lease)
    SELECT $2, $1, {{tenant}}, 1, count(*), now() + $3 FROM taken HAVING count(*) > 0 RETURNING size, tenant, {ASYNC_COMMIT}
),
moved AS (UPDATE work SET cohort = $2 WHERE ctid = ANY (ARRAY(SELECT tid FROM taken)))
SELECT size, tenant FROM made"""

_GROUP_ALL = tenants_due(bounds=_BOUNDS + _TAKING) + TAKE_IN_TURN + _MADE.format(tenant="NULL")
"""One cohort of all tenants in turn."""

_GROUP_FEW = tenants_due(bounds=_BOUNDS + _TAKING, few="$9") + TAKE_IN_TURN + _MADE.format(tenant="NULL")
"""One cohort of all tenants in turn that have few messages."""

_GROUP_ONE = (
    tenants_due(bounds=_BOUNDS, many="$9")
    + """,
turn AS MATERIALIZED (
    SELECT d.tenant FROM due d CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE NOT c.holding) AS open, count(*) FILTER (WHERE c.holding AND c.behind) AS behind
        FROM cohort c WHERE c.lane = $1 AND c.tenant = d.tenant) o
    WHERE o.open < $8 AND o.behind < $10 ORDER BY o.open, d.first_due
    LIMIT 1
)"""
    + TAKE_OF_ONE
    + _MADE.format(tenant="(SELECT tenant FROM turn)")
)
"""One cohort of one tenant that has more: the one with the fewest cohorts under way, then the one that has waited longest;
none that has its share of the lane already, or waits for its accounts with so much that more would only wait there too."""

_FEW_AT_WORK = "SELECT min(lane) FROM cohort WHERE takes_until > now() AND takes_until <= now() + $1::interval"

_TAKEN_ON_FOR = """
SELECT extract(epoch FROM max(takes_until) - now())::float8 FROM cohort
WHERE lane = $1 AND takes_until > now() AND takes_until <= now() + $2::interval"""

_RENEW = "UPDATE cohort SET lease = now() + $3 WHERE id = $1 AND epoch = $2"

_LAPSED = "SELECT id, lane, tenant, epoch, size FROM cohort WHERE lease < now() ORDER BY lease LIMIT $1"

_NEXT_EPOCH = """
UPDATE cohort SET epoch = epoch + 1, lease = now() + $3, holding = false, behind = false
WHERE id = $1 AND epoch = $2 AND lease < now() RETURNING epoch"""

_END = f"""
DELETE FROM cohort c WHERE c.id = $1 AND c.epoch = $2 AND NOT EXISTS (SELECT FROM work w WHERE w.cohort = c.id)
RETURNING {ASYNC_COMMIT}"""

_LOCK = "SELECT 1 FROM cohort WHERE id = $1 AND epoch = $2 FOR UPDATE"

_RELEASE = "UPDATE work SET cohort = NULL WHERE cohort = $1 AND state = 0 AND due_at > now() + $2"

_LEFT = """
SELECT account, n = 0 AS unplanned,
       extract(epoch FROM min(CASE state WHEN 0 THEN due_at ELSE greatest(unknown_at, now() + $2) END) - now())::float8
       AS wait_s, bool_or(state = 0 AND attempt = 0) AS untried
FROM work WHERE cohort = $1 GROUP BY 1, 2"""

_NEXT_DUE = """
SELECT extract(epoch FROM min(due_at) - now())::float8 FROM work
WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0"""

_HOLD = """
UPDATE cohort SET holding = $3, behind = $5, lease = now() + $4, takes_until = NULL WHERE id = $1 AND epoch = $2"""

_WAIT = f"UPDATE cohort SET holding = true, behind = true WHERE id = $1 AND epoch = $2 RETURNING {ASYNC_COMMIT}"

_ORPHANS = """
UPDATE work w SET cohort = NULL
WHERE w.cohort IS NOT NULL AND NOT EXISTS (SELECT FROM cohort c WHERE c.id = w.cohort)"""

_IS_DUE = tenants_due() + " SELECT EXISTS (SELECT FROM due)"

_BACKLOG = """
SELECT lane, coalesce(waiting, 0) AS waiting, coalesce(later, 0) AS later, coalesce(in_cohorts, 0) AS in_cohorts,
       coalesce(oldest_s, 0)::float8 AS oldest_s
FROM unnest($1::smallint[]) lane LEFT JOIN (
    SELECT lane, count(*) FILTER (WHERE cohort IS NULL AND state = 0 AND due_at <= now()) AS waiting,
           count(*) FILTER (WHERE cohort IS NULL AND due_at > now()) AS later,
           count(*) FILTER (WHERE cohort IS NOT NULL) AS in_cohorts,
           extract(epoch FROM now() - min(due_at) FILTER (WHERE state = 0 AND due_at <= now())) AS oldest_s
    FROM work GROUP BY lane) w USING (lane)"""

LOOK_AGAIN = timedelta(seconds=2)
"""How soon it is asked again about what is overdue in somebody's hands: to be lost it has to be seen for a while."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in one lane, in rows of `work`."""

    lane: Lane
    waiting: int
    later: int
    in_cohorts: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class CohortRow(CohortEpoch):
    """A cohort in its epoch, as the starter and the sweep see it."""

    lane: Lane
    tenant: str | None
    size: int = 0


class CohortRepository:
    """Cohort rows. Every statement is fenced by (id, epoch); each method is one unit of work."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def group(self, lane: Lane, *, policy: LanePolicy | None = None) -> CohortRow | None:
        """Make one cohort of what is due in `lane`; None when nothing is due or the lane has enough cohorts open."""
        policy = policy or POLICIES[lane]
        cohort = uuid7()
        bounds = (policy.cohort_size, policy.cohorts_open, policy.cohorts_starting, STARTING_FOR)
        arguments, few = (int(lane), cohort, LEASE, *bounds), policy.mixes_up_to
        if few is None:
            row = await self._pool.fetchrow(_GROUP_ALL, *arguments, ADMISSION_LEASE)
        else:
            row = await self._pool.fetchrow(_GROUP_FEW, *arguments, ADMISSION_LEASE, few) if few else None
            row = row or await self._pool.fetchrow(
                _GROUP_ONE, *arguments, policy.cohorts_of_tenant, few, policy.cohorts_behind
            )
        return CohortRow(cohort, 1, lane, row["tenant"], row["size"]) if row else None

    async def few_at_work(self) -> Lane | None:
        """The most urgent lane in which a cohort of few is at work, in any process."""
        lane = await self._pool.fetchval(_FEW_AT_WORK, ADMISSION_LEASE)
        return None if lane is None else Lane(lane)

    async def taken_on_for(self, lane: Lane) -> float:
        """For so many seconds some cohort has said that it takes on what becomes due in the lane; 0: none has."""
        value: float | None = await self._pool.fetchval(_TAKEN_ON_FOR, int(lane), ADMISSION_LEASE)
        return value or 0.0

    async def due_lanes(self) -> list[Lane]:
        """Lanes that hold due work without a cohort."""
        return [lane for lane in Lane if await self._pool.fetchval(_IS_DUE, int(lane))]

    async def backlog(self) -> list[Backlog]:
        """Every lane's backlog: one pass over `work`, so not for every second."""
        rows = await self._pool.fetch(_BACKLOG, [int(lane) for lane in Lane])
        return [Backlog(Lane(r["lane"]), r["waiting"], r["later"], r["in_cohorts"], r["oldest_s"]) for r in rows]

    async def renew(self, cohort: CohortEpoch, *, lease: timedelta = LEASE) -> None:
        """Put the lease off to `lease` from now."""
        await self._pool.execute(_RENEW, cohort.id, cohort.epoch, lease)

    async def lapsed(self, *, limit: int) -> list[CohortRow]:
        """Cohorts whose lease has passed, longest first."""
        rows = await self._pool.fetch(_LAPSED, limit)
        return [CohortRow(row["id"], row["epoch"], Lane(row["lane"]), row["tenant"], row["size"]) for row in rows]

    async def next_epoch(self, cohort: CohortRow) -> CohortRow | None:
        """Compare-and-set: the cohort in its new epoch, or None when somebody else was first or a sign of life came."""
        epoch: int | None = await self._pool.fetchval(_NEXT_EPOCH, cohort.id, cohort.epoch, LEASE)
        return None if epoch is None else replace(cohort, epoch=epoch)

    async def leave(self, cohort: CohortEpoch, *, horizon: timedelta) -> dict[str, float]:
        """End the cohort if nothing of it is left; otherwise release what is due beyond `horizon` and say what waits.

        Returns account -> seconds until its next row is due or its fate is unknown (`UNPLANNED` for rows without a plan);
        empty when the cohort has ended or is fenced.
        """
        if await self._pool.execute(_END, cohort.id, cohort.epoch) == "DELETE 1":
            return {}

        async def unit(connection: Connection) -> dict[str, float]:
            if await connection.fetchval(_LOCK, cohort.id, cohort.epoch) is None:
                return {}
            await connection.execute(_RELEASE, cohort.id, horizon)
            left = await connection.fetch(_LEFT, cohort.id, LOOK_AGAIN)
            waits = _waits(left)
            if not waits:
                await connection.execute(_END, cohort.id, cohort.epoch)
            else:
                rest = min(waits.values())
                lease = LEASE + timedelta(seconds=max(0.0, rest))
                untried = any(row["untried"] for row in left)
                await connection.execute(_HOLD, cohort.id, cohort.epoch, rest > 0, lease, untried)
            return waits

        return await retried(self._pool, unit)

    async def next_due_s(self, cohort: UUID, *, account: str) -> float | None:
        """Seconds until its next open row is due over this account; None when there is none."""
        value: float | None = await self._pool.fetchval(_NEXT_DUE, cohort, account)
        return value

    async def wait_for_answers(self, cohort: CohortEpoch) -> None:
        """It has nothing more to claim until answers come: it takes no place of its lane from others meanwhile."""
        await self._pool.execute(_WAIT, cohort.id, cohort.epoch)

    async def adopt_orphans(self) -> int:
        """Rows whose cohort is gone become due again by themselves: somebody deleted it by hand, or one attempt of an
        activity ended it while another, which was believed dead, moved rows into it."""

        async def unit(connection: Connection) -> int:
            status: str = await connection.execute(_ORPHANS)
            return int(status.split()[-1])

        return await retried(self._pool, unit)


def _waits(rows: list[Any]) -> dict[str, float]:
    return {UNPLANNED if row["unplanned"] else row["account"]: max(0.0, row["wait_s"]) for row in rows}
