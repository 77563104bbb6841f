"""Many notifications, made inside PostgreSQL: spread over weeks, with values that are common and values that hardly
occur."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

TENANT, OTHER = "acme", "globex"

_WEEK = """
DO $$
DECLARE
    week timestamptz := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
BEGIN
    FOR age IN 1..{weeks} LOOP
        EXECUTE format('CREATE TABLE notification_%s_weeks PARTITION OF notification FOR VALUES FROM (%L) TO (%L)
                        WITH (fillfactor = 80, autovacuum_enabled = off)', age,
                       uuid7_floor(week - make_interval(weeks => age)),
                       uuid7_floor(week - make_interval(weeks => age - 1)));
    END LOOP;
END $$"""

_FILL = """
INSERT INTO notification (id, tenant, app, lane, category, user_id, to_channel, to_address, channels, strategy, template,
                          content, data, status, final, reason, partial, accepted_at, expires_at, finished_at)
SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(k % 4096), 3, '0') || '8'
        || substr(md5(k || ' of ' || $1::int), 1, 15))::uuid,
       CASE WHEN k % 5 = 0 THEN 'globex' ELSE 'acme' END,
       CASE WHEN k IN (1, 2, 3) THEN 'rare-app' ELSE 'app-' || k % 7 END,
       1, 'c-' || k % 11,
       CASE WHEN k % 2 = 0 THEN 'u-' || (k::bigint * 7919) % 20000 END,
       CASE WHEN k % 2 = 1 THEN 'email' END,
       CASE WHEN k = 7 THEN 'once@example.com' WHEN k % 2 = 1 THEN 'a' || (k::bigint * 7919) % 50000 || '@example.com' END,
       CASE WHEN k % 2 = 0 THEN '{inapp,email}' ELSE '{email}' END::text[], 'all',
       CASE WHEN k IN (6, 8, 9) THEN 'rare-template' WHEN k % 3 = 0 THEN 't-' || k % 13 END,
       CASE WHEN k % 3 > 0 THEN json_build_object('title', 'Order ' || k, 'text', repeat('x', 100)) END,
       CASE WHEN k % 3 = 0 THEN json_build_object('order', 'A-' || k) END,
       status, true,
       CASE status WHEN 'failed' THEN 'content_refused' WHEN 'suppressed' THEN 'no_address'
                   WHEN 'expired' THEN 'expired_before_retry' END,
       status = 'delivered' AND k % $3 = 9,
       at, at + interval '1 day', at + interval '1 second'
FROM (
    SELECT k, now() - (($1 - k)::float8 / $1) * $2 * interval '1 week' - interval '1 minute' AS at,
           CASE WHEN k % $3 = 4 THEN 'failed' WHEN k % 20 = 3 THEN 'suppressed' WHEN k % 50 = 1 THEN 'expired'
                ELSE 'delivered' END AS status
    FROM generate_series(1, $1::int) k) x"""


@dataclass(frozen=True)
class Filled:
    rows: int
    weeks: int
    one_failed_in: int


async def make_weeks(connection: asyncpg.Connection, *, weeks: int) -> None:
    """Partitions for the weeks that have passed."""
    await connection.execute(_WEEK.format(weeks=weeks))


async def fill(connection: asyncpg.Connection, filled: Filled) -> None:
    """Oldest first, as they come: row k of n lies n - k steps back."""
    await connection.execute(_FILL, filled.rows, filled.weeks, filled.one_failed_in, timeout=600)


async def summarise(connection: asyncpg.Connection) -> None:
    """What autovacuum does with blocks that are full."""
    for row in await connection.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE i.inhparent = 'notification_blocks'::regclass"
    ):
        await connection.fetchval("SELECT brin_summarize_new_values($1::text::regclass)", row["name"], timeout=600)
