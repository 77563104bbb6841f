"""Notifications as they are read: by id with everything that happened, and as lists by keyset.

What is stored as `accepted` or `scheduled` until the end is shown as what it is at the moment: `scheduled` while its time
lies ahead, `processing` once a workflow has planned it. Lists filter by what they show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from domain.ids import uuid7_floor

SHOWN = """
CASE WHEN n.final THEN n.status
     WHEN EXISTS (SELECT FROM work w WHERE w.notification_id = n.id AND w.n > 0) THEN 'processing'
     WHEN n.send_at > now() THEN 'scheduled'
     ELSE 'accepted' END"""

_ONE = f"""
SELECT n.*, {SHOWN} AS shown FROM notification n WHERE n.id = $1 AND n.tenant = $2 AND n.deleted_at IS NULL"""

_DELIVERIES = """
SELECT coalesce(d.n, w.n) AS n, coalesce(d.channel, w.channel) AS channel, d.provider,
       coalesce(d.account, w.account) AS account, coalesce(d.address, w.address) AS address, d.status,
       d.reason, d.class, d.code, d.attempts, d.provider_id, d.sent_at, d.delivered_at, d.read_at,
       w.state AS step_state, w.due_at, w.attempt AS step_attempt
FROM (SELECT * FROM delivery WHERE notification_id = $1) d
FULL JOIN (SELECT * FROM work WHERE notification_id = $1 AND n > 0) w ON w.n = d.n
ORDER BY 1"""

_WORKFLOWS = """
SELECT cohort, epoch, min(at) AS since FROM (
    SELECT cohort, epoch, at FROM event WHERE notification_id = $1 AND cohort IS NOT NULL AND epoch IS NOT NULL
    UNION ALL
    SELECT c.id, c.epoch, now() FROM work w JOIN cohort c ON c.id = w.cohort WHERE w.notification_id = $1
) x GROUP BY 1, 2 ORDER BY since"""

_EVENTS = "SELECT id, n, at, type, cohort, epoch, detail FROM event WHERE notification_id = $1 ORDER BY at, id"

_LIST = f"""
SELECT n.id, n.app, n.lane, n.category, n.user_id, n.to_channel, n.to_address, n.channels, n.strategy, n.template,
       n.template_version, n.final, n.reason, n.partial, n.accepted_at, n.send_at, n.expires_at, n.finished_at, n.origin,
       {SHOWN} AS shown
FROM notification n
WHERE n.tenant = $1 AND n.deleted_at IS NULL AND n.id < $2 AND n.id >= $3
  AND ($4::smallint IS NULL OR n.lane = $4)
  AND ($5::text IS NULL OR n.app = $5)
  AND ($6::text IS NULL OR n.user_id = $6)
  AND ($7::text IS NULL OR n.category = $7)
  AND ($8::text IS NULL OR n.template = $8)
  AND ($9::timestamptz IS NULL OR n.accepted_at >= $9)
  AND ($10::timestamptz IS NULL OR n.accepted_at < $10)
  AND ($11::text IS NULL OR $11 = ANY (n.channels) OR n.to_channel = $11
       OR EXISTS (SELECT FROM delivery d WHERE d.notification_id = n.id AND d.channel = $11))
  AND ($12::text IS NULL OR {SHOWN} = $12)
ORDER BY n.id DESC LIMIT $13"""

_LAST = UUID(int=(1 << 128) - 1)
_FIRST = UUID(int=0)
_SKEW = timedelta(minutes=5)
"""Ids carry the accepting process's clock, `accepted_at` the database's: bounds on ids are this much wider."""
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""No id lies outside, and neither ids nor the arithmetic of times reach much further."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list shows; None shows all. `since` is inclusive, `until` is not."""

    lane: int | None = None
    app: str | None = None
    user: str | None = None
    category: str | None = None
    template: str | None = None
    channel: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """One notification and everything that hangs on it, as database rows."""

    row: asyncpg.Record
    deliveries: Sequence[asyncpg.Record]
    workflows: Sequence[asyncpg.Record]


class NotificationReader:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def one(self, tenant: str, *, notification_id: UUID) -> Details | None:
        """One snapshot of all of it, from the primary: people read what they have just written."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(_ONE, notification_id, tenant)
            if row is None:
                return None
            deliveries = await connection.fetch(_DELIVERIES, notification_id)
            return Details(row, deliveries, await connection.fetch(_WORKFLOWS, notification_id))

    async def events(self, tenant: str, *, notification_id: UUID) -> tuple[asyncpg.Record, list[Any]] | None:
        """The notification's row and its events in order; None when this tenant has no such notification."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(_ONE, notification_id, tenant)
            if row is None:
                return None
            return row, await connection.fetch(_EVENTS, notification_id)

    async def page(self, tenant: str, *, filters: Filters, before: UUID | None, limit: int) -> list[asyncpg.Record]:
        """At most `limit` rows, newest first, below the keyset position `before`. Rows that come in meanwhile are above it,
        so nothing is skipped or shown twice."""
        bounds = id_bounds(filters.since, filters.until)
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")  # by the filters that are given
            rows: list[asyncpg.Record] = await connection.fetch(
                _LIST, tenant, min(before or _LAST, bounds.above), bounds.first, filters.lane, filters.app, filters.user,
                filters.category, filters.template, bounds.since, bounds.until, filters.channel, filters.status, limit,
            )  # fmt: skip
        return rows


@dataclass(frozen=True, slots=True)
class IdBounds:
    """A span of time, brought within what PostgreSQL's times hold, and the ids that can lie in it."""

    since: datetime | None
    until: datetime | None
    first: UUID
    """Inclusive."""
    above: UUID
    """Exclusive."""


def id_bounds(since: datetime | None, until: datetime | None) -> IdBounds:
    since, until = _bounded(since), _bounded(until)
    return IdBounds(
        since,
        until,
        first=uuid7_floor(since - _SKEW) if since else _FIRST,
        above=uuid7_floor(until + _SKEW) if until else _LAST,
    )


def _bounded(at: datetime | None) -> datetime | None:
    return None if at is None else min(max(at, _EARLIEST), _LATEST)
