"""Keyspace and tables: `python -m infra.cassandra.schema --replicas 3`, once for each cluster. Safe to repeat.

One partition holds one notification's events, so a timeline is one read of one node, and nothing grows without end.
`at_us` is the time in microseconds since 1970 in UTC: Cassandra's own `timestamp` stops at the millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import timedelta

from cassandra.query import SimpleStatement
from pydantic import ValidationError

from domain.errors import Unavailable
from infra.cassandra.connection import DDL_S, Cassandra
from infra.settings import Settings

KEEP = timedelta(days=3 * 365)
WINDOW = timedelta(days=30)
"""Of TimeWindowCompaction: whole files expire, and three years are 37 windows (more than about 50 make reads slow)."""

_KEYSPACE = """
CREATE KEYSPACE IF NOT EXISTS {keyspace}
WITH replication = {{'class': 'NetworkTopologyStrategy', '{datacenter}': {replicas}}}"""

_EVENT = """
CREATE TABLE IF NOT EXISTS {keyspace}.event (
    notification_id uuid,
    at_us bigint,
    id uuid,
    n smallint,
    type text,
    cohort uuid,
    epoch int,
    detail text,
    PRIMARY KEY ((notification_id), at_us, id)
) WITH CLUSTERING ORDER BY (at_us ASC, id ASC)
  AND compaction = {{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS',
                     'compaction_window_size': '{window_days}'}}
  AND default_time_to_live = {keep_s}"""


async def create_schema(cassandra: Cassandra, *, settings: Settings, replicas: int = 3, keep: timedelta = KEEP) -> None:
    """Make the keyspace and its tables where they are missing; what is there stays as it is.

    `replicas`: copies in the settings' data centre; 3 survive the loss of a node without a pause. `keep`: how long events
    live; a keyspace in several data centres is made by its operators, before this. Raises Unavailable.
    """
    values = {
        "keyspace": settings.cassandra_keyspace,
        "datacenter": settings.cassandra_datacenter,
        "replicas": replicas,
        "window_days": WINDOW.days,
        "keep_s": int(keep.total_seconds()),
    }
    for statement in (_KEYSPACE, _EVENT):
        await cassandra.execute(SimpleStatement(statement.format(**values), is_idempotent=True), timeout_s=DDL_S)


async def _create(settings: Settings, *, replicas: int) -> None:
    cassandra = await Cassandra.open(settings)
    try:
        await create_schema(cassandra, settings=settings, replicas=replicas)
    finally:
        await cassandra.close()


def main() -> int:
    """Exit code: 0 it is there, 1 settings are wrong or the cluster cannot be used, 2 wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m infra.cassandra.schema", description="Make keyspace and tables.")
    parser.add_argument("--replicas", type=int, default=3, help="copies of each event in the data centre (default: 3)")
    arguments = parser.parse_args()
    try:
        settings = Settings()
        asyncio.run(_create(settings, replicas=arguments.replicas))
    except (Unavailable, ValidationError) as error:
        print(f"tongda: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
