"""What of a cohort waits for one account: how much, whose, and how it is put off or goes over another account.

What is put off for long leaves a cohort that tenants share, and is grouped again in its time: such a cohort would otherwise
be driven for it again and again, and under a lasting flood there would be ever more of them. A tenant's own cohort keeps
what it has, and is looked at again: the tenant gets only so many more (`cohorts._GROUP_ONE`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from domain.cohorts import CohortEpoch
from domain.lanes import LOOKS_AGAIN_WITHIN, OVERLOOKED_AFTER, POLICIES, SHARED_KEEPS
from domain.shares import ENDPOINT_PATTERN, Blocked
from domain.timeline import EventType
from domain.work_row import TAKEN_BY_NOBODY
from infra.postgres.engine.locks import Connection, retried
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events

NEVER_CALLS = "(awaiting OR expires_at <= now())"
"""It goes on or ends without a call, whatever its account takes: its receipt is overdue, or it has expired."""

_LOOKED_AT = f"> now() - interval '{OVERLOOKED_AFTER.total_seconds()} seconds'"

OVER = f"expires_at <= now() OR coalesce(falls_back_at, 'infinity') <= now() AND due_at {_LOOKED_AT}"
"""Its time, or the time of its place in a chain."""

NO_CALL = f"(awaiting OR {OVER})"
"""It waits no longer for an account that takes nothing: `NEVER_CALLS`, or its chain is to go on by now. As long as
the account can be called, that last one is sent like any other."""

_RESENDING = ", ".join(str(int(lane)) for lane, policy in POLICIES.items() if policy.resend_unknown)

STAYS = f"""(attempt > 0
  AND EXISTS (SELECT FROM delivery d
              WHERE d.notification_id = work.notification_id AND d.n = work.n AND d.lost IS NOT NULL
                AND EXISTS (SELECT FROM json_array_elements(d.lost) one WHERE json_array_length(one) < 4 OFFSET 0)
              OFFSET 0)
  AND (SELECT coalesce(m.options ->> 'on_unknown', CASE WHEN m.lane IN ({_RESENDING}) THEN 'resend' END) IS DISTINCT FROM
              'resend' FROM notification m WHERE m.id = work.notification_id OFFSET 0))"""
"""It may have arrived over its account and must not come twice (`Claim.stays`): it goes over no other one. Sub-selects for
each row, and none where nothing was tried: a join would give the planner a choice."""


def bound_of(table: str) -> str:
    """Until when a row of `table` waits for an account that takes nothing. The time in which nobody looked at it does not
    count: after an outage of ours it has what was left to it then."""
    return f"""CASE WHEN {table}.falls_back_at <= now() AND NOT {table}.due_at {_LOOKED_AT}
        THEN now() + greatest({table}.falls_back_at - {table}.due_at, interval '0') ELSE {table}.falls_back_at END"""


_ACCOUNTS = "SELECT DISTINCT account FROM work WHERE cohort = $1 AND n > 0 AND state = 0 AND due_at <= now()"

_TENANTS = f"""
SELECT tenant, bool_or(NOT {NO_CALL} AND NOT {STAYS}) AS may_leave, bool_or(NOT {NO_CALL} AND {STAYS}) AS stays,
       bool_or({NO_CALL}) AS uncalled FROM work
WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now() GROUP BY tenant"""

_DUE = f"""
SELECT count(*) AS due, count(*) FILTER (WHERE waits) AS waiting
FROM (SELECT NOT {NO_CALL} AS waits FROM work
      WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now() LIMIT $3) w"""

_WAITING = f"""
SELECT count(*) FROM (SELECT FROM work WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now()
                      AND NOT {NO_CALL} LIMIT $3) w"""

_DUE_ROWS = f"""
WITH s AS MATERIALIZED (
    SELECT ctid AS tid, notification_id, n FROM work
    WHERE cohort = $1 AND account = $3 AND n > 0 AND state = 0 AND due_at <= now()
      AND NOT {NO_CALL} AND ($4::text[] IS NULL OR tenant = ANY ($4)) AND {{whose}}
      AND EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)
    ORDER BY notification_id FOR UPDATE SKIP LOCKED
)"""

_PUT_OFF = f""",
c AS MATERIALIZED (SELECT tenant IS NULL AS shared FROM cohort WHERE id = $1),
off AS (
    UPDATE work w
    SET due_at = least(p.due, w.expires_at, {bound_of("w")}, now() + {{looks}}), falls_back_at = {bound_of("w")},
        tried = {{tried}},
        cohort = CASE WHEN c.shared AND p.due > now() + {{leaves}} THEN NULL ELSE w.cohort END
    FROM p, c WHERE w.ctid = p.tid AND w.state = 0
)
SELECT EXISTS (SELECT FROM work
               WHERE cohort = $1 AND account = $3 AND n > 0 AND state = 0 AND due_at <= now() AND {NO_CALL})"""
"""True if rows are left that need no call. Parking would put those whose time is over at a moment that has passed, again
and again."""

_UNMARKED = f"array_remove(w.tried, '{TAKEN_BY_NOBODY}')"

_PARK = (
    _DUE_ROWS.format(whose=f"(NOT $10::bool OR {STAYS})")
    + """,
p AS MATERIALIZED (
    SELECT tid, now() + $5::interval + $6::interval * (row_number() OVER (ORDER BY notification_id) - 1) AS due FROM s
)"""
    + _PUT_OFF.format(
        looks="$7::interval",
        leaves="$8::interval",
        tried=f"CASE WHEN $9::bool THEN array_append({_UNMARKED}, '{TAKEN_BY_NOBODY}') ELSE {_UNMARKED} END",
    )
)
"""Each to the moment when its turn comes; all at the same moment would only be parked again."""

_MOVE = (
    _DUE_ROWS.format(whose=f"NOT {STAYS}")
    + """
UPDATE work SET account = $5 WHERE ctid = ANY (ARRAY(SELECT tid FROM s)) AND state = 0 RETURNING notification_id, n"""
)


def blocked_for(table: str, *, first: int) -> str:
    """How long a row of `table` is blocked, an interval; NULL: it is not. `first`: the number of the first parameter of
    `blocked_columns`. A sub-select for each row: a join would give the planner a choice."""
    return f"""(
        SELECT max(b.wait)
        FROM (SELECT coalesce(substring({table}.address FROM '{ENDPOINT_PATTERN}'), '') AS endpoint OFFSET 0) mine,
             unnest(${first}::text[], ${first + 1}::text[], ${first + 2}::interval[]) b(tenant, endpoint, wait)
        WHERE b.tenant = {table}.tenant
          AND CASE WHEN b.endpoint IS NULL THEN mine.endpoint <> ALL (${first + 3}::text[])
                   ELSE b.endpoint = mine.endpoint END)"""


_PARK_BLOCKED = f"""
WITH s AS MATERIALIZED (
    SELECT ctid AS tid, notification_id, n, {blocked_for("work", first=4)} AS wait FROM work
    WHERE cohort = $1 AND account = $3 AND n > 0 AND state = 0 AND due_at <= now()
      AND NOT {NO_CALL} AND EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)
    ORDER BY notification_id FOR UPDATE SKIP LOCKED
),
p AS MATERIALIZED (SELECT tid, now() + wait AS due FROM s WHERE wait IS NOT NULL)""" + _PUT_OFF.format(
    looks="$8::interval", leaves="$9::interval", tried=_UNMARKED
)


def blocked_columns(blocked: Sequence[Blocked]) -> tuple[list[str], list[str | None], list[timedelta], list[str]]:
    """As parameters."""
    return (
        [one.tenant for one in blocked],
        [one.endpoint for one in blocked],
        [timedelta(seconds=one.wait_s) for one in blocked],
        [endpoint for one in blocked for endpoint in one.but],
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of one tenant is due over an account."""

    tenant: str
    may_leave: bool
    """Some of it needs a call, and any account's will do."""
    stays: bool
    """Some of it needs a call of this account (`STAYS`)."""
    uncalled: bool
    """Some of it needs none."""


class AccountQueue:
    """Fenced by (id, epoch) where it changes something; each method is one statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def accounts(self, cohort: UUID) -> list[str]:
        """Accounts over which a row of the cohort is due now."""
        return [row["account"] for row in await self._pool.fetch(_ACCOUNTS, cohort)]

    async def tenants(self, cohort: UUID, *, account: str) -> list[Waiting]:
        """Whose rows of the cohort are due over this account."""
        rows = await self._pool.fetch(_TENANTS, cohort, account)
        return [Waiting(row["tenant"], row["may_leave"], row["stays"], row["uncalled"]) for row in rows]

    async def due(self, cohort: UUID, *, account: str, limit: int) -> tuple[int, int]:
        """How many rows are due over this account, counted up to `limit`, and how many of them will wait for a call."""
        (row,) = await self._pool.fetch(_DUE, cohort, account, limit)
        return row["due"], row["waiting"]

    async def waiting(self, cohort: UUID, *, account: str, limit: int) -> int:
        """How many will wait for a call, counted up to `limit`."""
        count: int = await self._pool.fetchval(_WAITING, cohort, account, limit)
        return count

    async def park(
        self,
        cohort: CohortEpoch,
        *,
        account: str,
        wait: timedelta,
        spacing: timedelta,
        tenants: Sequence[str] | None = None,
        taken_by_nobody: bool = False,
        staying: bool = False,
    ) -> bool:
        """Put off what is due over this account: the first by `wait`, each further one by `spacing` more. Of these tenants;
        None: of all. `taken_by_nobody`: nor does another account take it, and it is woken when one does. `staying`: only
        what may go over no other one. What needs no call stays due; returns whether there is such."""
        times = (wait, spacing, LOOKS_AGAIN_WITHIN, SHARED_KEEPS)
        arguments = (cohort.id, cohort.epoch, account, tenants, *times, taken_by_nobody, staying)
        return bool(await retried(self._pool, lambda connection: connection.fetchval(_PARK, *arguments)))

    async def park_blocked(self, cohort: CohortEpoch, *, account: str, blocked: Sequence[Blocked]) -> bool:
        """Put off what is due over this account and blocked, each by its wait. What needs no call stays due; returns
        whether there is such."""
        arguments = (cohort.id, cohort.epoch, account, *blocked_columns(blocked), LOOKS_AGAIN_WITHIN, SHARED_KEEPS)
        return bool(await retried(self._pool, lambda connection: connection.fetchval(_PARK_BLOCKED, *arguments)))

    async def move(
        self,
        cohort: CohortEpoch,
        *,
        account: str,
        to: str,
        detail: Mapping[str, Any],
        tenants: Sequence[str] | None = None,
    ) -> None:
        """What is due over this account and needs a call, but not of this very one, goes over another, which these tenants
        may use, and the timeline says why (`detail`)."""

        async def unit(connection: Connection) -> None:
            moved = await connection.fetch(_MOVE, cohort.id, cohort.epoch, account, tenants, to)
            await write_events(connection, [
                Entry(row["notification_id"], row["n"], TimelineEvent(EventType.FAILOVER, dict(detail)), cohort=cohort)
                for row in moved
            ])  # fmt: skip

        await retried(self._pool, unit)
