"""The last sign of life of each worker process, with the lanes that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from infra.postgres.tenants.account_health import ALIVE

_THERE = "SELECT to_regclass('worker') IS NOT NULL"
_SIGNS = "SELECT name, greatest(now() - at, interval '0') AS silent FROM worker ORDER BY name, process"


@dataclass(frozen=True, slots=True)
class Sign:
    """Of one process. Who stopped in order has none; who died or stands still is forgotten after ten minutes."""

    name: str
    silent: timedelta
    """Since its last sign, by the database's clock."""
    lanes: frozenset[str] | None
    """None: its version does not say."""

    @property
    def lives(self) -> bool:
        return self.silent <= ALIVE

    def serves(self, lane: str) -> bool:
        return self.lanes is None or lane in self.lanes


def name_of(process: str, *, lanes: Sequence[str]) -> str:
    """How a process is called in `worker.name`, such as "host:4711 high"."""
    return f"{process} {','.join(lanes)}" if lanes else process


def lanes_in(name: str) -> frozenset[str] | None:
    """The lanes of a name that `name_of` made."""
    _, blank, lanes = name.partition(" ")
    return frozenset(lanes.split(",")) if blank else None


async def signs(connection: asyncpg.Connection) -> list[Sign] | None:
    """None before the first migration. Raises asyncpg.PostgresError."""
    if not await connection.fetchval(_THERE):
        return None
    return [Sign(row["name"], row["silent"], lanes_in(row["name"])) for row in await connection.fetch(_SIGNS)]
