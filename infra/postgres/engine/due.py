"""SQL of what is due and in no cohort yet: tenants in turn, and rows taken by them."""

from __future__ import annotations

QUARTER = "date_bin('15 minutes', {at}, timestamptz '2000-01-01 00:00:00+00')"
"""The quarter of an hour that a time lies in, as the index `work_turn` (lane, quarter, tenant) holds it."""
MOST_TURNS = 1000
"""Quarters of tenants that are walked before all tenants are: a backlog of hours has many."""

_OPEN = "w.lane = $1 AND w.cohort IS NULL AND w.state = 0"

_WALK = f"""
WITH RECURSIVE turns AS (
    (SELECT {QUARTER.format(at="w.due_at")} AS quarter, w.tenant FROM work w
     WHERE {_OPEN} AND {QUARTER.format(at="w.due_at")} <= {QUARTER.format(at="now()")} ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT x.quarter, x.tenant FROM turns t CROSS JOIN LATERAL (
        SELECT {QUARTER.format(at="w.due_at")} AS quarter, w.tenant FROM work w
        WHERE {_OPEN} AND {QUARTER.format(at="w.due_at")} <= {QUARTER.format(at="now()")}
          AND ({QUARTER.format(at="w.due_at")}, w.tenant) > (t.quarter, t.tenant)
        ORDER BY 1, 2 LIMIT 1) x
),
met AS MATERIALIZED (SELECT tenant FROM turns LIMIT {MOST_TURNS}),
everyone AS (
    (SELECT w.tenant, w.due_at FROM work w WHERE {_OPEN} AND (SELECT count(*) FROM met) = {MOST_TURNS}
     ORDER BY w.tenant, w.due_at LIMIT 1)
    UNION ALL
    SELECT x.tenant, x.due_at FROM everyone t CROSS JOIN LATERAL (
        SELECT w.tenant, w.due_at FROM work w WHERE {_OPEN} AND w.tenant > t.tenant
        ORDER BY w.tenant, w.due_at LIMIT 1) x
),
firsts AS MATERIALIZED (
    SELECT tenant, first_due FROM (
        SELECT t.tenant, (SELECT w.due_at FROM work w WHERE {_OPEN} AND w.tenant = t.tenant
                          ORDER BY w.due_at LIMIT 1) AS first_due
        FROM (SELECT DISTINCT tenant FROM met) t WHERE (SELECT count(*) FROM met) < {MOST_TURNS}
        UNION ALL
        SELECT tenant, due_at FROM everyone) f
    WHERE true {{bounds}}
),
due AS MATERIALIZED (SELECT tenant, first_due FROM firsts WHERE first_due <= now() {{waiting}})"""
"""A loose walk over the index (lane, quarter, tenant): whose rows are all due later is not met, however many they are. In a
backlog with many quarters, one over (lane, tenant, due_at), which meets everybody once."""

_WAITING = """
    AND (SELECT count(*) FROM (SELECT FROM work w WHERE w.lane = $1 AND w.tenant = firsts.tenant AND w.cohort IS NULL
                               AND w.state = 0 AND w.due_at <= now() LIMIT {most} + 1) w) {compared} {most}"""
"""Of how many rows are due, no more is read than the comparison needs."""

_TAKE = """,
taken AS MATERIALIZED (
    SELECT d.tid FROM {tenants} t CROSS JOIN LATERAL (
        SELECT w.ctid AS tid FROM work w
        WHERE w.lane = $1 AND w.tenant = t.tenant AND w.cohort IS NULL AND w.state = 0 AND w.due_at <= now()
        ORDER BY w.due_at LIMIT {share} FOR UPDATE SKIP LOCKED) d
    LIMIT $4
)"""


def tenants_due(*, bounds: str = "", few: str | None = None, many: str | None = None) -> str:
    """CTEs up to `due` (tenant, first_due): tenants that have due work in lane $1; `few`, `many`: the parameter with the
    number of due rows that they have at most, or have more than. Nothing where one of `bounds` is reached."""
    waiting = ""
    if few or many:
        waiting = _WAITING.format(most=few or many, compared="<=" if few else ">")
    return _WALK.format(bounds=bounds, waiting=waiting)


TAKE_IN_TURN = _TAKE.format(
    tenants="(SELECT tenant FROM due ORDER BY random())", share="(SELECT greatest($4 / count(*), 1) FROM due)"
)
"""CTE `taken` (tid): $4 rows of all that are due, each tenant its share, in an order that favours nobody."""

MORE_DUE = """(
    (SELECT count(*) FROM taken) >= $4
    OR EXISTS (SELECT FROM due d WHERE EXISTS (
        SELECT FROM work w
        WHERE w.lane = $1 AND w.tenant = d.tenant AND w.cohort IS NULL AND w.state = 0 AND w.due_at <= now()
        OFFSET (SELECT greatest($4 / count(*), 1) FROM due))))"""
"""After `TAKE_IN_TURN`: somebody has more due than its share."""

TAKE_OF_ONE = _TAKE.format(tenants="turn", share="$4")
"""CTE `taken` (tid): $4 rows of the tenant in CTE `turn`."""
