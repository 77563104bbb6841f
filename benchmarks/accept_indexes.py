"""What an index on `notification` costs the accept statement: `python -m benchmarks.accept_indexes`, about four minutes.

A durable embedded PostgreSQL of its own; one database a variant, each filled with 300,000 rows first, so that indexes
have their depth. Rounds of 400 statements of 16 notifications (a usual group of the commit writer) alternate between the
databases. Figures are medians over the rounds: CPU time of the PostgreSQL backend a notification (/proc, so it takes
Linux; wall time is mostly the disk's), its ratio to the same round of the first variant, and bytes of write-ahead log a
notification.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from datetime import timedelta

import asyncpg
import uvloop

from benchmarks.alone import cpu_ns, postgres_alone
from domain.ids import uuid7
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.row import Row
from infra.postgres.database import HOT_STATEMENTS
from infra.postgres.migrate import migrate

ROUNDS, STATEMENTS, GROUP, ROWS = 9, 400, 16, 300_000
VARIANTS: dict[str, str] = {
    "as migrated": "",
    "again, as migrated": "",
    "without its reason index": "DROP INDEX notification_reason",
    "without its block index": "DROP INDEX notification_blocks",
    "btree (tenant, to_address, id)": "CREATE INDEX ON notification (tenant, to_address, id) WHERE to_address IS NOT NULL",
    "btree (tenant, template, id)": "CREATE INDEX ON notification (tenant, template, id) WHERE template IS NOT NULL",
    "btree (tenant, app, id)": "CREATE INDEX ON notification (tenant, app, id)",
}
FILL = """
INSERT INTO notification (id, tenant, app, lane, category, user_id, to_channel, to_address, channels, strategy, template,
                          content, data, status, accepted_at, expires_at)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(k % 4096), 3, '0') || '8'
        || substr(md5(k::text), 1, 15))::uuid, 't' || k % 3, 'app-' || k % 10, 1, 'c-' || k % 20, NULL, 'email',
       'user' || (k::bigint * 7919) % 100000 || '@example.com', '{email}', 'all', 'template-' || k % 50,
       json_build_object('text', repeat('x', 200)), NULL, 'accepted', at, at + interval '1 day'
FROM (SELECT k, now() - (300000 - k) * interval '1 millisecond' AS at FROM generate_series(1, $1::int) k) x"""


async def main() -> int:
    async with postgres_alone() as url:
        await _measure(url)
    return 0


async def _measure(url: str) -> None:
    await migrate(url)
    async with contextlib.AsyncExitStack() as stack:
        pools: dict[str, asyncpg.Pool] = {}
        for place, (name, statement) in enumerate(VARIANTS.items()):
            pools[name] = await _made(url, f"variant_{place}", statement)
            stack.push_async_callback(pools[name].close)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
        for turn in range(ROUNDS):
            names = list(VARIANTS)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                taken[name].append(await _round(pools[name]))
    first = taken[next(iter(VARIANTS))]
    for name, figures in taken.items():
        ratio = statistics.median(mine[0] / base[0] for mine, base in zip(figures, first, strict=True))
        cpu_us, wal_bytes = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{name:52} {cpu_us:6.1f} us CPU  {ratio:6.3f}  {wal_bytes:6.0f} bytes of WAL", flush=True)


async def _made(url: str, name: str, statement: str) -> asyncpg.Pool:
    administrator = await asyncpg.connect(url)
    await administrator.execute(f"CREATE DATABASE {name}")
    await administrator.close()
    own = url.rpartition("/")[0] + "/" + name
    await migrate(own)
    pool = await asyncpg.create_pool(own, min_size=1, max_size=1, server_settings=HOT_STATEMENTS)
    if statement:
        await pool.execute(statement)
    await pool.execute(FILL, ROWS, timeout=300)
    await pool.execute("VACUUM ANALYZE notification", timeout=300)
    return pool


async def _round(pool: asyncpg.Pool) -> tuple[float, float]:
    """Microseconds of CPU, and bytes of write-ahead log, a notification."""
    repository = AcceptRepository(pool)
    groups = [[_row(turn * GROUP + place) for place in range(GROUP)] for turn in range(STATEMENTS)]
    await pool.execute("CHECKPOINT")
    backend: int = await pool.fetchval("SELECT pg_backend_pid()")
    before_ns, log_before = cpu_ns(backend), await pool.fetchval("SELECT pg_current_wal_lsn()")
    for group in groups:
        await repository.store(group, first=True)
    taken_ns = cpu_ns(backend) - before_ns
    wal_bytes = await pool.fetchval("SELECT pg_current_wal_lsn()") - log_before
    count = STATEMENTS * GROUP
    return taken_ns / 1000 / count, wal_bytes / count


def _row(number: int) -> Row:
    return Row(
        uuid7(), f"t{number % 3}", f"app-{number % 10}", 1, f"c-{number % 20}", None, "email",
        f"user{(number * 7919) % 100000}@example.com", "email", "all", f"template-{number % 50}", 1,
        '{"text": "' + "x" * 200 + '"}', None, None, None, None, timedelta(days=1), None,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
