"""A clock is set an hour forward, an hour back and right again under load, of one kind of process at a time: nothing is
lost, sent twice, given up as too old, or left lying for those hours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta

import asyncpg
import pytest

from tests.e2e.checker import check
from tests.e2e.clocks import LOOKS_EVERY_S, SetClock, clock_of, with_clock
from tests.e2e.parts import WORKERS, Parts, new_parts
from tests.e2e.test_outages import load, under_load

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(500)]
HOUR = timedelta(hours=1)
DAY_S = 86_400
"""What lives longer than the clock jumps; a life of five minutes ends when PostgreSQL's clock says so."""
NOTICED_S = LOOKS_EVERY_S + 2.0
"""A clock has been set, and everybody has looked at it since."""
WHOSE: Mapping[str, tuple[str, ...]] = {"postgres": ("postgres",), "api": ("api-0",), "workers": tuple(WORKERS)}
Clocked = tuple[Parts, Mapping[str, SetClock]]


@pytest.fixture(scope="module")
async def clocked() -> AsyncIterator[Clocked]:
    """Everything is up, each with a clock of its own."""
    async with new_parts() as made:
        clocks = {name: clock_of(name, home=made.home) for name in WHOSE}
        made.folder = with_clock(made.folder, clocks["postgres"], home=made.home)
        made.preloads = {name: clocks[whose].environment for whose, names in WHOSE.items() for name in names}
        await made.start("postgres", "temporal")
        await made.migrate()
        await made.serve()
        yield made, clocks


@pytest.mark.parametrize("whose", WHOSE)
async def test_a_clock_that_is_wrong_for_a_while(clocked: Clocked, whose: str) -> None:
    parts, clocks = clocked
    async with contextlib.AsyncExitStack() as stack:
        senders = []
        for name, ahead in (("forward", HOUR), ("back", -HOUR), ("right", timedelta())):
            senders.append(await stack.enter_async_context(load(parts, f"{whose}-{name}")))
            async with under_load(senders[-1], parts, per_second=20, expires_in=DAY_S):
                clocks[whose].set(ahead)
                await asyncio.sleep(NOTICED_S)
            if whose == "postgres":
                assert abs(await now(parts) - (datetime.now().astimezone() + ahead)) < HOUR / 2
        await check(*senders, parts=parts, unknowns=False)


async def now(parts: Parts) -> datetime:
    connection: asyncpg.Connection = await parts.connect()
    try:
        said: datetime = await connection.fetchval("SELECT now()")
    finally:
        await connection.close()
    return said
