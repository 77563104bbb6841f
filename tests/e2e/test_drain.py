"""Deploys under load: processes are told to stop and replaced, and nobody notices."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.checker import check
from tests.e2e.load import hooks, mails, sending
from tests.e2e.parts import APIS, WORKERS, Parts

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(300)]
DEPLOYS = 3


async def test_a_rolling_restart_of_the_api_fails_no_request(parts: Parts) -> None:
    """Every request is accepted in the end, once, and none is refused by a process that stops."""
    bodies, replaced = hooks("rolling", 20, box_url=parts.box.http_url, priority="medium"), asyncio.Event()
    async with sending("rolling", urls=parts.urls, key=parts.key) as sender:
        load = asyncio.create_task(sender.offer(bodies, per_second=50, until=replaced))
        for name in APIS:
            await asyncio.sleep(0.5)
            await parts.stop(name)
            await parts.start(name)
        await asyncio.sleep(0.5)
        replaced.set()
        await load
        assert sender.refused == 0
        await check(sender, parts=parts, unknowns=False)


async def test_workers_that_are_replaced_leave_no_unknown(parts: Parts) -> None:
    """Hundreds of messages to slow receivers are in flight each time: all come home, and the rest is not sent twice."""
    bodies = []
    for lane in ("high", "medium", "low"):
        bodies += hooks(f"slow-{lane}", 200, box_url=parts.box.http_url, priority=lane)
        bodies += mails(f"slow+{lane}", 20, priority=lane)
    async with sending("replaced", urls=parts.urls, key=parts.key) as sender:
        await sender.offer(bodies, per_second=300)
        for _ in range(DEPLOYS):
            await asyncio.sleep(1)
            await asyncio.gather(*(parts.stop(name) for name in WORKERS))
            await parts.start(*WORKERS)
        await check(sender, parts=parts, unknowns=False)
