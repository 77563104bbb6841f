"""Three million notifications: what each kind of list touches, with the bounds that are in force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from infra.postgres.database import HOT_STATEMENTS
from infra.postgres.lists.pages import MOST_BY_BLOCK, MOST_EXAMINED
from tests.lists.filling import Filled, fill, make_weeks, summarise
from tests.lists.filters import COMMON, RARE
from tests.lists.touching import Touched, took_ms, touch

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

FILLED = Filled(rows=3_000_000, weeks=6, one_failed_in=100_000)
BUFFERS = 60_000
"""One page of 50 out of 3,000,000 rows reads less than this, whatever is asked for: the walk (20,000 entries and their
rows, of which some buffers hold several), its end, and the block index (6 weeks of it, each read whole)."""


@pytest.fixture(scope="module")
async def connection(module_database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(module_database, server_settings=HOT_STATEMENTS)
    await make_weeks(opened, weeks=FILLED.weeks)
    await fill(opened, FILLED)
    await opened.execute("ANALYZE notification", timeout=600)
    await summarise(opened)
    yield opened
    await opened.close()


async def test_every_list_of_three_million(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Shows a table (with -s) and holds the bounds. Times are shown, never asserted."""
    wanted: dict[str, dict[str, Any]] = COMMON | {name: filters for name, (filters, _, _) in RARE.items()}
    told: list[str] = []
    seen: dict[str, Touched] = {}
    for name, filters in wanted.items():
        found, seen[name] = await touch(connection, **filters)
        ms = min([await took_ms(connection, **filters) for _ in range(3)])
        told.append(
            f"{name:40} {len(found.rows):4} items {'more' if found.position else 'end ':5} {seen[name].rows:7} rows "
            f"{seen[name].buffers:7} buffers {ms:7.1f} ms  {', '.join(sorted(seen[name].indexes))}"
        )
    print("\n" + "\n".join(told))
    for name, touched in seen.items():
        assert touched.whole == set(), name
        assert touched.buffers <= BUFFERS, name
        assert touched.rows <= 4 * MOST_EXAMINED + 400 * MOST_BY_BLOCK, name
    for name, (filters, index, _) in RARE.items():
        found, touched = await touch(connection, **filters)
        assert found.position is None, name
        assert index in touched.indexes, name
    failed, _ = await touch(connection, status="failed")
    assert len(failed.rows) == 30
