"""Everything is started at once or in the wrong order: who needs somebody else waits and says so, and then it works."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.checker import check
from tests.e2e.load import mixed, sending
from tests.e2e.parts import APIS, WORKERS, Parts, new_parts

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(300)]
SAID_WITHIN_S = 60.0


async def said(made: Parts, name: str, *, event: str, code: str | None = None) -> None:
    """Until its log has this event."""
    async with asyncio.timeout(SAID_WITHIN_S):
        while not any(e["event"] == event and code in (None, e.get("code")) for e in events(made, name)):
            assert made.children[name].running, f"{name} {made.children[name].ending()}: {made.children[name].tail()}"
            await asyncio.sleep(0.1)


def events(made: Parts, name: str) -> list[dict[str, str]]:
    whole = made.said(name).rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


async def test_processes_wait_for_what_is_not_there_yet() -> None:
    """API and workers before PostgreSQL, before its migration and before Temporal."""
    async with new_parts() as made:
        await asyncio.gather(*(made.launch(name) for name in (*APIS, *WORKERS)))
        for name in APIS:
            await said(made, name, event="database.waiting")
        for name in WORKERS:
            await said(made, name, event="temporal.waiting")
        await made.start("postgres")
        for name in APIS:
            await said(made, name, event="database.waiting", code="NotMigrated")
        await made.migrate()
        await asyncio.gather(*(made.until_ready(name) for name in APIS))
        async with sending("early", urls=made.urls, key=made.key) as sender:
            await sender.offer(mixed("early", 30, box_url=made.box.http_url), per_second=100)
            assert (sender.refused, sender.broken) == (0, 0)
            await made.start("temporal")
            await asyncio.gather(*(made.until_ready(name) for name in WORKERS))
            await check(sender, parts=made, unknowns=False)
