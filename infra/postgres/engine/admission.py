"""What a workflow finds when it takes a cohort up, and what its cohort takes on while it is at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from domain.channels import Channel
from domain.cohorts import CohortEpoch
from domain.lanes import ADMISSION_LEASE, LEASE, Lane
from domain.planning import Request
from domain.states import Strategy
from infra.postgres.async_commit import ASYNC_COMMIT
from infra.postgres.engine.due import MORE_DUE, TAKE_IN_TURN, tenants_due
from infra.postgres.engine.options import fallback_wait
from infra.postgres.tenants.windows import decode_window

_UNPLANNED = """
    SELECT w.notification_id, w.tenant, w.lane, w.expires_at, n.user_id, n.to_channel, n.to_address, n.channels,
           n.strategy, n.category, n.digest IS NOT NULL AS carries, n.hours, n.fallback_after,
           t.time_zone AS tenant_zone
    FROM {rows} w
    JOIN LATERAL (SELECT user_id, to_channel, to_address, channels, strategy, category, digest, options->'window' AS hours,
                         options->>'fallback_after' AS fallback_after
                  FROM notification WHERE id = w.notification_id OFFSET 0) n ON true
    LEFT JOIN LATERAL (SELECT time_zone FROM tenant WHERE n.hours IS NOT NULL AND id = w.tenant OFFSET 0) t ON true"""

_OF_COHORT = """
    (SELECT notification_id, tenant, lane, expires_at FROM work
     WHERE cohort = $1 AND n = 0 AND state = 0 ORDER BY notification_id LIMIT $4)"""

_ENTER = f"""
WITH alive AS (
    UPDATE cohort SET lease = now() + $3, holding = false, behind = false, begun = true,
                      takes_until = CASE WHEN $6 AND tenant IS NULL AND (begun OR size < $4) THEN now() + $5::interval END
    WHERE id = $1 AND epoch = $2 RETURNING takes_until IS NOT NULL AS admits, tenant IS NULL AS shared, {ASYNC_COMMIT}
)
SELECT p.*, now() AS now, admits, shared FROM alive LEFT JOIN LATERAL ({_UNPLANNED.format(rows=_OF_COHORT)}) p ON true"""

_ADMITTED = f""",
left_over AS MATERIALIZED (SELECT {MORE_DUE} AS more),
alive AS (
    UPDATE cohort SET lease = CASE WHEN lease < now() + $3::interval / 2 THEN now() + $3 ELSE lease END,
                      size = size + (SELECT count(*) FROM taken),
                      takes_until = CASE WHEN NOT (SELECT more FROM left_over) THEN now() + $6::interval END
    WHERE id = $2 AND epoch = $5 AND (EXISTS (SELECT FROM taken) OR takes_until < now() + $6::interval / 2)
    RETURNING {ASYNC_COMMIT}
),
moved AS (
    UPDATE work SET cohort = $2 WHERE ctid = ANY (ARRAY(SELECT tid FROM taken)) AND EXISTS (SELECT FROM alive)
    RETURNING notification_id, n, tenant, lane, expires_at, account
)
SELECT p.*, now() AS now, (SELECT count(*) FROM moved) AS took, (SELECT more FROM left_over) AS more,
       (SELECT array_agg(DISTINCT account) FROM moved WHERE n > 0) AS accounts,
       EXISTS (SELECT FROM cohort o WHERE o.id < $2 AND o.lane = $1 AND o.takes_until > now()
                                      AND o.takes_until <= now() + $6::interval) AS is_second
FROM (VALUES (1)) one LEFT JOIN LATERAL ({_UNPLANNED.format(rows="(SELECT * FROM moved WHERE n = 0)")}) p ON true"""

_STOP_ADMITTING = f"UPDATE cohort SET takes_until = NULL WHERE id = $1 AND epoch = $2 RETURNING {ASYNC_COMMIT}"

_ADMIT_ALL = tenants_due() + TAKE_IN_TURN + _ADMITTED
_ADMIT_FEW = tenants_due(few="$7") + TAKE_IN_TURN + _ADMITTED


@dataclass(frozen=True, slots=True)
class Unplanned:
    """One notification that waits for its plan."""

    notification_id: UUID
    tenant: str
    request: Request | None
    """None: what is stored cannot be read (a channel that this version does not know)."""
    carries: bool = False
    """It carries a digest, which closes before it is planned."""
    fallback_after: timedelta | None = None
    """How long each place of its chain may wait, unsent or for a receipt."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What a workflow finds when it takes a cohort up."""

    now: datetime
    unplanned: Sequence[Unplanned]
    admits: bool
    """True: this cohort takes on due rows of tenants that share. No grouper takes them for `ADMISSION_LEASE` after each
    look."""
    shared: bool
    """Of tenants that have few messages, or where all share."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a cohort has taken on."""

    now: datetime
    size: int
    """Rows, those with a plan from before too. 0: nothing was due, or the epoch has been replaced."""
    more: bool
    """So much is due that others are needed: they group again."""
    unplanned: Sequence[Unplanned]
    accounts: frozenset[str] = frozenset()
    """Of the rows that have a plan."""
    is_second: bool = False
    """An older cohort of the lane takes on as well."""


class AdmissionRepository:
    """Fenced by (id, epoch); each method is one statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def enter(self, cohort: CohortEpoch, *, limit: int, admits: bool = False) -> Entered | None:
        """Renew the lease and load what is unplanned; None when this epoch has been replaced or the cohort has ended.

        `admits`: the caller can take on what becomes due. It is to, where tenants share the cohort and it was not full.
        """
        rows = await self._pool.fetch(_ENTER, cohort.id, cohort.epoch, LEASE, limit, ADMISSION_LEASE, admits)
        if not rows:
            return None
        return Entered(rows[0]["now"], _unplanned(rows), rows[0]["admits"], rows[0]["shared"])

    async def stop_admitting(self, cohort: CohortEpoch) -> None:
        """What becomes due from now on is others'."""
        await self._pool.execute(_STOP_ADMITTING, cohort.id, cohort.epoch)

    async def admit_due(self, cohort: CohortEpoch, *, lane: Lane, limit: int, few: int | None) -> Admitted:
        """Take up to `limit` rows of what is due, tenants in turn (`few`: those only that have no more than so many), into
        this cohort, and go on taking for `ADMISSION_LEASE`, unless somebody has more due than its share."""
        arguments = (int(lane), cohort.id, LEASE, limit, cohort.epoch, ADMISSION_LEASE)
        if few is None:
            rows = await self._pool.fetch(_ADMIT_ALL, *arguments)
        else:
            rows = await self._pool.fetch(_ADMIT_FEW, *arguments, few)
        one = rows[0]
        accounts = frozenset(one["accounts"] or ())
        return Admitted(one["now"], one["took"], one["more"], _unplanned(rows), accounts, one["is_second"])


def _unplanned(rows: Sequence[asyncpg.Record]) -> list[Unplanned]:
    return [_one(row) for row in rows if row["notification_id"] is not None]


def _one(row: asyncpg.Record) -> Unplanned:
    try:
        request = _request(row)
    except ValueError:
        request = None
    return Unplanned(
        row["notification_id"], row["tenant"], request, carries=row["carries"],
        fallback_after=fallback_wait(row["fallback_after"]),
    )  # fmt: skip


def _request(row: asyncpg.Record) -> Request:
    return Request(
        tuple(Channel(c) for c in row["channels"]),
        Strategy(row["strategy"]),
        row["expires_at"],
        user_id=row["user_id"],
        direct=(Channel(row["to_channel"]), row["to_address"]) if row["to_channel"] else None,
        category=row["category"],
        lane=Lane(row["lane"]),
        window=decode_window(row["hours"]),
        tenant_zone=row["tenant_zone"] or "",
    )
