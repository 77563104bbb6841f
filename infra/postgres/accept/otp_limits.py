"""How many codes were sent to whom, and how often somebody guessed wrong at whose: one row a subject, counted exactly under
its lock, swept when its span is over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from domain.errors import TooManyRequests
from domain.otp import GUESSES, WORDS, Limit, Scope
from infra.postgres.engine.locks import Connection

_COUNT = """
INSERT INTO otp_counter AS c (tenant, scope, subject, count, until)
SELECT $1, s.scope, s.subject, $5, now() + s.span
FROM unnest($2::text[], $3::bytea[], $4::interval[]) s(scope, subject, span)
ON CONFLICT (tenant, scope, subject) DO UPDATE SET
    count = CASE WHEN c.until <= now() THEN 0 ELSE c.count END + $5,
    until = CASE WHEN c.until <= now() OR c.count = 0 THEN EXCLUDED.until ELSE c.until END
RETURNING scope, subject, count, extract(epoch FROM until - now())::float8 AS wait_s"""
"""Adds $5; with 0 it only locks and reads, and the span still begins with the first that counts."""

_LOOK = """
SELECT scope, subject, count, extract(epoch FROM until - now())::float8 AS wait_s
FROM unnest($2::text[], $3::bytea[]) s(scope, subject) JOIN otp_counter c USING (scope, subject)
WHERE c.tenant = $1 AND c.until > now()"""

_LOCK = """
SELECT FROM otp_counter WHERE tenant = $1 AND scope = ANY ($2::text[]) AND subject = ANY ($3::bytea[])
ORDER BY scope, subject FOR UPDATE"""

_CLEAR = """
DELETE FROM otp_counter WHERE tenant = $1 AND scope = ANY ($2::text[]) AND subject = ANY ($3::bytea[])
RETURNING scope, CASE WHEN until > now() THEN count ELSE 0 END AS count"""

_FORGET = """
DELETE FROM otp_counter WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM otp_counter WHERE until < now() ORDER BY until LIMIT $1 FOR UPDATE SKIP LOCKED))"""


@dataclass(frozen=True, slots=True)
class Counted:
    """One thing that a send or a wrong guess counts against."""

    scope: Scope
    subject: bytes
    """A keyed hash, never an address."""
    limit: Limit


async def count(connection: Connection, tenant: str, counted: Sequence[Counted]) -> None:
    """Count one in the caller's transaction, as its last statement: the rows stay locked until COMMIT.

    Raises TooManyRequests where a limit is passed; the transaction must then be undone, and with it the counting.
    """
    _refuse(await _add(connection, tenant, counted, more=1), counted, more=0)


async def hold(connection: Connection, tenant: str, counted: Sequence[Counted]) -> None:
    """Lock what the next one would count against, until COMMIT, and count nothing. Raises TooManyRequests where it would
    pass a limit."""
    _refuse(await _add(connection, tenant, counted, more=0), counted, more=1)


async def look(connection: Connection, tenant: str, counted: Sequence[Counted]) -> None:
    """As `hold`, without a lock: it may be passed a moment later."""
    if counted:
        rows = await connection.fetch(_LOOK, tenant, [c.scope for c in counted], [c.subject for c in counted])
        _refuse(rows, counted, more=1)


def guesses_of(recipients: Sequence[bytes], limits: Mapping[Scope, Limit]) -> list[Counted]:
    """What a wrong guess at a code of these recipients counts against."""
    return [Counted(scope, recipient, limit) for scope, limit in limits.items() for recipient in recipients]


async def clear_guesses(connection: Connection, tenant: str, recipients: Sequence[bytes]) -> dict[Scope, int]:
    """No wrong guess of theirs counts any more: how many did, by span, with whom of them had most. A guess under way is
    waited for, and forgotten with the others."""
    scopes, subjects = [*GUESSES], [*recipients]
    await connection.execute(_LOCK, tenant, scopes, subjects)  # in the order of `_add`
    rows = await connection.fetch(_CLEAR, tenant, scopes, subjects)
    return {scope: max((row["count"] for row in rows if row["scope"] == scope), default=0) for scope in GUESSES}


async def _add(connection: Connection, tenant: str, counted: Sequence[Counted], *, more: int) -> list[asyncpg.Record]:
    if not counted:
        return []
    # Always in one order: two whose subjects cross would otherwise wait for each other.
    ordered = sorted(counted, key=lambda one: (one.scope, one.subject))
    scopes, subjects = [c.scope for c in ordered], [c.subject for c in ordered]
    return await connection.fetch(_COUNT, tenant, scopes, subjects, [c.limit.span for c in ordered], more)


def _refuse(rows: Sequence[asyncpg.Record], counted: Sequence[Counted], *, more: int) -> None:
    """Raises TooManyRequests where a count and `more` pass their limit."""
    most = {(c.scope, c.subject): c.limit.most for c in counted}
    over = [row for row in rows if row["count"] + more > most[Scope(row["scope"]), row["subject"]]]
    if over:
        worst = max(over, key=lambda row: (row["wait_s"], row["scope"]))
        raise too_many(Scope(worst["scope"]), wait_s=worst["wait_s"])


def too_many(scope: Scope, *, wait_s: float) -> TooManyRequests:
    """The refusal, with the wait in whole seconds."""
    code = "otp_too_soon" if scope is Scope.COOLDOWN else "otp_limited"
    wait = max(1, math.ceil(wait_s))
    told = f"{WORDS[scope].removesuffix('.')}; again in {wait} s." if scope is Scope.COOLDOWN else WORDS[scope]
    return TooManyRequests(told, code=code, retry_after_s=wait)


async def forget_counters(pool: asyncpg.Pool, *, limit: int) -> int:
    """Delete at most `limit` counters whose span is over; returns how many."""
    status: str = await pool.execute(_FORGET, limit)
    return int(status.split()[-1])
