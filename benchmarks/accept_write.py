"""What writing a group costs: `python -m benchmarks.accept_write`, about three minutes.

The accepting statement as it is and other ways to say the same, over a connection each to one durable embedded PostgreSQL,
in groups of several sizes. Rounds of 30 statements alternate between the ways. Figures are CPU time a notification, of this
process (encoding, sending, reading the answer) and of the PostgreSQL backend: medians over the rounds, the least of them,
and the median of the ratios of their sum to the first way's.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import uvloop

from benchmarks import bodies
from benchmarks.alone import cpu_ns, postgres_alone
from domain.ids import uuid7
from infra.postgres.accept.accepting import FIRST, PLAIN
from infra.postgres.accept.row import Row
from infra.postgres.database import HOT_STATEMENTS
from infra.postgres.migrate import migrate

ROUNDS, STATEMENTS, GROUPS = 15, 30, (1, 4, 16, 32, 200)
_GIVEN = "unnest($1::accept_row[]) a"
_TYPES = {
    "id": "uuid", "tenant": "text", "app": "text", "lane": "smallint", "category": "text", "user_id": "text",
    "to_channel": "text", "to_address": "text", "channels": "text", "strategy": "text", "template": "text",
    "template_version": "int", "content": "json", "data": "json", "metadata": "json", "options": "json",
    "send_at": "timestamptz", "expires_in": "interval", "expires_at": "timestamptz",
}  # fmt: skip
_ARRAYS = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_TYPES.values(), 1))
_LISTED = ", ".join(f"unnest(${place}::{kind}[]) AS {name}" for place, (name, kind) in enumerate(_TYPES.items(), 1))
_FIELDS = ", ".join(f"{name} {kind}" for name, kind in _TYPES.items())


def _columns(rows: Sequence[Row]) -> tuple[Any, ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _document(rows: Sequence[Row]) -> tuple[Any, ...]:
    return (msgspec.json.encode([dict(zip(_TYPES, row, strict=True)) for row in rows]).decode(),)


@dataclass
class Way:
    """One way to say it, and what it took: (client, backend) in us a notification, by size of the group."""

    statement: str
    given: Callable[[Sequence[Row]], tuple[Any, ...]]
    taken: dict[int, list[tuple[float, float]]] = field(default_factory=lambda: {size: [] for size in GROUPS})


WAYS = {
    "as it is": Way(FIRST, lambda rows: (rows,)),
    "looking for conflicts": Way(PLAIN, lambda rows: (rows,)),
    "an array a column": Way(FIRST.replace(_GIVEN, f"unnest({_ARRAYS}) a({', '.join(_TYPES)})"), _columns),
    "the same, conflicts too": Way(PLAIN.replace(_GIVEN, f"unnest({_ARRAYS}) a({', '.join(_TYPES)})"), _columns),
    "arrays unnested in a list": Way(FIRST.replace(_GIVEN, f"(SELECT {_LISTED}) a"), _columns),
    "one JSON document": Way(FIRST.replace(_GIVEN, f"json_to_recordset($1::json) a({_FIELDS})"), _document),
}


async def main() -> int:
    async with postgres_alone() as url:
        await migrate(url)
        connections = {name: await asyncpg.connect(url, server_settings=HOT_STATEMENTS) for name in WAYS}
        for turn in range(ROUNDS + 1):  # the first is not counted: plans are made
            for size in GROUPS:
                for name, way in WAYS.items():
                    figures = await _round(connections[name], way, size=size)
                    way.taken[size] += [figures] if turn else []
        for connection in connections.values():
            await connection.close()
    _print()
    return 0


async def _round(connection: asyncpg.Connection, way: Way, *, size: int) -> tuple[float, float]:
    groups = [[_row() for _ in range(size)] for _ in range(STATEMENTS)]
    backend = connection.get_server_pid()
    before_s, before_ns = time.process_time(), cpu_ns(backend)
    for group in groups:
        await connection.fetch(way.statement, *way.given(group), timeout=30)
    count = size * STATEMENTS
    return (time.process_time() - before_s) * 1e6 / count, (cpu_ns(backend) - before_ns) / 1000 / count


def _row() -> Row:
    """As `benchmarks.bodies.scheduled_mail` is stored."""
    content = msgspec.json.encode({"title": bodies.TITLE, "text": bodies.TEXT}).decode()
    return Row(
        uuid7(), "acme", "shop", 1, "", None, "email", "bench@example.com", "email", "all", None, None, content, None,
        '{"order":"20261123-0042"}', None, datetime.now(UTC) + bodies.FAR, timedelta(days=1), None,
    )  # fmt: skip


def _print() -> None:
    first = next(iter(WAYS.values()))
    for size in GROUPS:
        print(f"groups of {size}: us of CPU a notification, median (least)")
        for name, way in WAYS.items():
            client, backend = (
                f"{statistics.median(column):7.2f} ({min(column):6.2f})" for column in zip(*way.taken[size], strict=True)
            )
            pairs = zip(way.taken[size], first.taken[size], strict=True)
            ratio = statistics.median(sum(mine) / sum(base) for mine, base in pairs)
            print(f"  {name:26} client {client}  backend {backend}  {ratio:6.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
