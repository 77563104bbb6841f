"""The statements behind lists of notifications: ways to walk an index, the filters, and look-ups by block.

Parameters of all: $1 tenant, $2 ids below, $3 ids from, $4 keys of the way, $5 entries to examine, $6-$19 filters, $20
limit, $21 addresses, $22 the digest, $23 whether it arrived in part, $24 how a channel of it ended.
"""

from __future__ import annotations

from domain.states import MISSED
from infra.postgres.lists.search import text_filter

SHOWN = """
CASE WHEN n.final OR n.status = 'collected' THEN n.status
     WHEN EXISTS (SELECT FROM work w WHERE w.notification_id = n.id AND w.n > 0) THEN 'processing'
     WHEN n.status NOT IN ('accepted', 'scheduled') THEN n.status
     WHEN n.send_at > now() THEN 'scheduled'
     ELSE 'accepted' END"""
"""What is stored as `accepted` or `scheduled` until the end, as what it is at the moment. What was sent and may still be
reported on has its state before it is final."""

IS_TEST = "coalesce(n.options ->> 'test' = 'true', false) AS test"

_ENDED_SO = ", ".join(f"'{status}'" for status in sorted(MISSED))

FAILED_CHANNELS = f"""
CASE WHEN n.partial THEN (
    SELECT json_agg(json_build_object('n', d.n, 'channel', d.channel, 'status', d.status, 'reason', d.reason,
                                      'class', d.class, 'code', d.code) ORDER BY d.n)
    FROM delivery d WHERE d.notification_id = n.id AND d.status IN ({_ENDED_SO})) END AS failed_channels"""
"""What makes it partial; NULL where it is not, or another one carries it."""

ITEM = f"""
n.id, n.app, n.lane, n.category, n.user_id, n.to_channel, n.to_address, n.channels, n.strategy, n.template,
n.template_version, n.final, n.reason, n.partial, n.accepted_at, n.send_at, n.expires_at, n.finished_at, n.origin,
{SHOWN} AS shown, {IS_TEST}, {FAILED_CHANNELS}"""
"""Columns of a list's item."""

_RANGE = "n.tenant = $1 AND n.id < $2 AND n.id >= $3"

_WALKS: dict[str, str] = {
    "all": f"FROM notification n WHERE {_RANGE}",
    "id": f"FROM notification n WHERE {_RANGE} AND n.id = k.key::uuid",
    "user": f"FROM notification n WHERE {_RANGE} AND n.user_id = k.key",
    "collected": f"FROM notification n WHERE {_RANGE} AND (n.digest IS NOT NULL) IS TRUE",
    # by its digest alone: in the order of ids, the planner would rather look through a week
    "carried": f"FROM (SELECT * FROM notification WHERE digest = k.key::uuid OFFSET 0) n WHERE {_RANGE}",
    "reason": f"FROM notification n WHERE {_RANGE} AND n.reason = k.key",
    "partial": f"FROM notification n WHERE {_RANGE} AND n.partial",
    "open": f"""
      FROM (SELECT DISTINCT o.notification_id FROM (
                SELECT notification_id, tenant FROM work WHERE notification_id < $2 AND notification_id >= $3
                ORDER BY notification_id DESC LIMIT $5) o WHERE o.tenant = $1) p
      JOIN LATERAL (SELECT * FROM notification WHERE id = p.notification_id OFFSET 0) n ON true
      WHERE {_RANGE}""",
    "reported": f"""
      FROM (SELECT DISTINCT o.notification_id FROM (
                SELECT notification_id, tenant FROM delivery
                WHERE receipt_until IS NOT NULL AND notification_id < $2 AND notification_id >= $3
                ORDER BY notification_id DESC LIMIT $5) o WHERE o.tenant = $1) p
      JOIN LATERAL (SELECT * FROM notification WHERE id = p.notification_id OFFSET 0) n ON true
      WHERE {_RANGE}""",
}
"""Way -> where its walk comes from; `k.key` is what the index is asked for."""

_ENDS: dict[str, str] = {
    **{way: f"SELECT n.id {walk} ORDER BY n.id DESC OFFSET $5 - 1 LIMIT 1" for way, walk in _WALKS.items()},
    "open": """
      SELECT notification_id AS id FROM work
      WHERE notification_id < $2 AND notification_id >= $3 AND $1::text IS NOT NULL
      ORDER BY notification_id DESC OFFSET $5 - 1 LIMIT 1""",
    "reported": """
      SELECT notification_id AS id FROM delivery
      WHERE receipt_until IS NOT NULL AND notification_id < $2 AND notification_id >= $3 AND $1::text IS NOT NULL
      ORDER BY notification_id DESC OFFSET $5 - 1 LIMIT 1""",
}

_BY_BLOCK = """
      ($7::text IS NULL OR n.app = $7)
  AND ($9::text IS NULL OR n.category = $9)
  AND ($10::text IS NULL OR n.template = $10)
  AND ($21::text[] IS NULL OR n.to_address = ANY ($21))"""
"""What the block index knows."""

_FILTERS = f"""
      n.deleted_at IS NULL
  AND ($6::smallint IS NULL OR n.lane = $6)
  AND ($8::text IS NULL OR n.user_id = $8)
  AND ($11::timestamptz IS NULL OR n.accepted_at >= $11)
  AND ($12::timestamptz IS NULL OR n.accepted_at < $12)
  AND ($13::text IS NULL OR $24::text[] IS NOT NULL OR $13 = ANY (n.channels) OR n.to_channel = $13
       OR EXISTS (SELECT FROM delivery d WHERE d.notification_id = n.id AND d.channel = $13))
  AND ($14::text IS NULL OR {SHOWN} = $14)
  AND ($15::text IS NULL OR $24::text[] IS NOT NULL OR n.reason = $15)
  AND ($16::bool IS NULL OR n.final = $16)
  AND (NOT $17::bool OR NOT EXISTS (SELECT FROM event e WHERE e.notification_id = n.id AND e.type = 'resent' OFFSET 0))
  AND ($22::uuid IS NULL OR (n.digest = $22 AND n.id <> $22))
  AND ($23::bool IS NULL OR n.partial = $23)
  AND ($24::text[] IS NULL OR EXISTS (
        SELECT FROM delivery d WHERE d.notification_id = n.id AND d.status = ANY ($24)
        AND ($13::text IS NULL OR d.channel = $13) AND ($15::text IS NULL OR d.reason = $15) OFFSET 0))
  AND ($18::text IS NULL OR {text_filter(raw="$18", json="$19")})"""


def walk(way: str, *, columns: str) -> str:
    """For each key its newest matches, at most $20, among the first $5 entries that the index has for it."""
    return f"""
SELECT p.* FROM unnest($4::text[]) k(key) CROSS JOIN LATERAL (
    SELECT {columns} FROM (SELECT n.* {_WALKS[way]} ORDER BY n.id DESC LIMIT $5) n
    WHERE {_BY_BLOCK} AND {_FILTERS}
    ORDER BY n.id DESC LIMIT $20) p"""


def walks_end(way: str) -> str:
    """The highest id at which a key's walk stopped before its end; NULL where none did. Takes $1 to $5."""
    # as text, because PostgreSQL has no max(uuid) before 18; it sorts the same
    return f"SELECT max(e.id::text)::uuid FROM unnest($4::text[]) k(key) CROSS JOIN LATERAL ({_ENDS[way]}) e"


def by_block(partition: str, *, columns: str) -> str:
    """The matches of one partition, found through its block index; `seen` is how many the index's own conditions have,
    counted up to $5. Tenant and ids are written so that no other index can serve: which one is best the statistics often
    do not know."""
    return f"""
WITH found AS MATERIALIZED (
    SELECT * FROM {partition} n
    WHERE (n.tenant = $1) IS TRUE AND (n.id < $2) IS TRUE AND (n.id >= $3) IS TRUE AND $4::text[] IS NOT NULL
      AND {_BY_BLOCK}
    LIMIT $5)
SELECT c.seen, p.* FROM (SELECT count(*) AS seen FROM found) c
LEFT JOIN (SELECT {columns} FROM found n WHERE {_FILTERS} ORDER BY n.id DESC LIMIT $20) p ON true"""


PARTITIONS = """
SELECT c.oid::regclass::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'notification'::regclass"""

WALKING = "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_bitmapscan = off"
"""Planned by the filters that are given. Without bitmaps, which fetch everything before the first row."""
BY_BLOCK = "SET LOCAL enable_bitmapscan = on; SET LOCAL statement_timeout = '1s'"
"""Blocks that autovacuum has not summarised yet are read row by row; where these are many, the look-up is given up."""
