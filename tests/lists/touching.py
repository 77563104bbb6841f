"""What a list touches: each of its statements explained while it runs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import asyncpg

from infra.postgres.engine.locks import Connection
from infra.postgres.lists.pages import Filters, Page, Position, page
from tests.lists.filling import TENANT

TABLES = ("notification", "work", "delivery", "event")


@dataclass
class Touched:
    """Of one page: buffers read, rows that came out of the tables, and the ways to them."""

    buffers: int = 0
    rows: int = 0
    indexes: set[str] = field(default_factory=set)
    """By the name of the partitioned index."""
    whole: set[str] = field(default_factory=set)
    """Tables that were read from end to end."""
    statements: int = 0


class Explaining:
    """A connection, as far as lists use it, that explains what it runs."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._parents: dict[str, str] = {}
        self.touched = Touched()

    def transaction(self) -> Any:
        return self._connection.transaction()

    async def execute(self, statement: str, *arguments: object) -> Any:
        return await self._connection.execute(statement, *arguments)

    async def fetch(self, statement: str, *arguments: object) -> Any:
        await self._explain(statement, *arguments)
        return await self._connection.fetch(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        await self._explain(statement, *arguments)
        return await self._connection.fetchval(statement, *arguments)

    async def _explain(self, statement: str, *arguments: object) -> None:
        if not self._parents:
            rows = await self._connection.fetch(
                "SELECT c.relname AS child, p.relname AS parent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                "JOIN pg_class p ON p.oid = i.inhparent"
            )
            self._parents = {row["child"]: row["parent"] for row in rows}
        explained = await self._connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json) {statement}", *arguments
        )
        [tree] = json.loads(explained)
        top = tree["Plan"]
        self.touched.statements += 1
        self.touched.buffers += top["Shared Hit Blocks"] + top["Shared Read Blocks"]
        for node in _nodes(top):
            table = self._parents.get(node.get("Relation Name", ""), node.get("Relation Name", ""))
            if index := node.get("Index Name"):
                self.touched.indexes.add(self._parents.get(index, index))
            if table in TABLES:
                removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
                self.touched.rows += int((node["Actual Rows"] + removed) * node["Actual Loops"])
                if node["Node Type"] == "Seq Scan" and node["Actual Loops"]:
                    self.touched.whole.add(table)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


@contextlib.asynccontextmanager
async def explaining(connection: asyncpg.Connection) -> AsyncIterator[Explaining]:
    """In a transaction like a list's own."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield Explaining(connection)


async def took_ms(connection: asyncpg.Connection, *, q: str | None = None, **wanted: Any) -> float:
    """One page of tenant acme, not explained."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        began_s = time.perf_counter()
        await page(cast("Connection", connection), TENANT, filters=Filters(**wanted), limit=50, q=q)
        return (time.perf_counter() - began_s) * 1000


async def touch(
    connection: asyncpg.Connection,
    *,
    limit: int = 50,
    position: Position | None = None,
    q: str | None = None,
    **wanted: Any,
) -> tuple[Page, Touched]:
    """One page of tenant acme, and what it touched."""
    async with explaining(connection) as explained:
        found = await page(
            cast("Connection", explained), TENANT, filters=Filters(**wanted), limit=limit, position=position, q=q
        )
    return found, explained.touched
