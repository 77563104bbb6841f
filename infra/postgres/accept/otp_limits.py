"""How many codes were sent to whom: one row a subject, counted exactly under its lock, swept when its span is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from domain.errors import TooManyRequests
from domain.otp import WORDS, Limit, Scope
from infra.postgres.engine.locks import Connection

_COUNT = """
INSERT INTO otp_counter AS c (tenant, scope, subject, count, until)
SELECT $1, s.scope, s.subject, 1, now() + s.span
FROM unnest($2::text[], $3::bytea[], $4::interval[]) s(scope, subject, span)
ON CONFLICT (tenant, scope, subject) DO UPDATE SET
    count = CASE WHEN c.until <= now() THEN 1 ELSE c.count + 1 END,
    until = CASE WHEN c.until <= now() THEN EXCLUDED.until ELSE c.until END
RETURNING scope, subject, count, extract(epoch FROM until - now())::float8 AS wait_s"""

_FORGET = """
DELETE FROM otp_counter WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM otp_counter WHERE until < now() ORDER BY until LIMIT $1 FOR UPDATE SKIP LOCKED))"""


@dataclass(frozen=True, slots=True)
class Counted:
    """One thing that a send counts against."""

    scope: Scope
    subject: bytes
    """A keyed hash, never an address."""
    limit: Limit


async def count(connection: Connection, tenant: str, counted: Sequence[Counted]) -> None:
    """Count one send in the caller's transaction, as its last statement: the rows stay locked until COMMIT.

    Raises TooManyRequests where a limit is passed; the transaction must then be undone, and with it the counting.
    """
    # Always in one order: two sends whose subjects cross would otherwise wait for each other.
    ordered = sorted(counted, key=lambda one: (one.scope, one.subject))
    rows = await connection.fetch(
        _COUNT, tenant, [c.scope for c in ordered], [c.subject for c in ordered], [c.limit.span for c in ordered]
    )
    most = {(c.scope, c.subject): c.limit.most for c in ordered}
    over = [row for row in rows if row["count"] > most[Scope(row["scope"]), row["subject"]]]
    if over:
        worst = max(over, key=lambda row: (row["wait_s"], row["scope"]))
        raise too_many(Scope(worst["scope"]), wait_s=worst["wait_s"])


def too_many(scope: Scope, *, wait_s: float) -> TooManyRequests:
    """The refusal, with the wait in whole seconds."""
    code = "otp_too_soon" if scope is Scope.COOLDOWN else "otp_limited"
    return TooManyRequests(WORDS[scope], code=code, retry_after_s=max(1, math.ceil(wait_s)))


async def forget_counters(pool: asyncpg.Pool, *, limit: int) -> int:
    """Delete at most `limit` counters whose span is over; returns how many."""
    status: str = await pool.execute(_FORGET, limit)
    return int(status.split()[-1])
