"""Processes are killed, frozen and robbed of their memory under load, on one running service; one checker judges all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from sandbox.record import Item
from tests.e2e.checker import check
from tests.e2e.load import Sender, chains, hooks, mails, mixed, sending
from tests.e2e.parts import APIS, WORKERS, Parts

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(400)]

KILLED = ("api-0", "workers-high", "workers", "temporal", "postgres")
EVERYTHING = ("postgres", "temporal", *APIS, *WORKERS)
AWAY_S = 60.0
"""Longer than a cohort's lease: the sweep meets lapsed ones and cannot ask about them."""
FROZEN_S = 20.0
GROWTH_BYTES = 64 << 20
"""What an API process may gain while its callers are refused; a queue without bound gains that in seconds."""
STAND_STILL = """
SELECT count(*) FROM pg_stat_activity a
WHERE application_name = 'tongda-worker' AND state = 'idle in transaction'
  AND clock_timestamp() - state_change > interval '150 ms'
  AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.relation = 'notification'::regclass
              AND l.mode = 'RowShareLock')"""
"""Sessions of workers that hold notifications locked; of one that runs none is between two statements for so long."""
WORDS: Mapping[str, tuple[set[str], bool]] = {
    "slow": ({"delivered"}, False),
    "flaky": ({"delivered"}, False),
    "greylist": ({"delivered"}, False),
    "garbage": ({"delivered"}, False),
    "http503": ({"expired", "failed"}, False),
    "busy": ({"expired", "failed"}, False),
    "reset": ({"expired", "failed"}, True),
    "drop": ({"expired", "failed"}, True),
    "dropreset": ({"expired", "failed"}, True),
    "hang": ({"expired", "failed"}, True),
}
"""What the receiver does, how its messages may end, and whether they may be called unknown on the way or at the end."""


class Docket:
    """The senders whose notifications take a minute or more to come to an end: judged together when all is over."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.senders: list[Sender] = []
        self._stack = contextlib.AsyncExitStack()

    async def sender(self, name: str, *, branch: bool = False) -> Sender:
        made = await self._stack.enter_async_context(load(self.parts, name, branch=branch))
        self.senders.append(made)
        return made

    async def close(self) -> None:
        async with self._stack:
            await check(*self.senders, parts=self.parts)


@pytest.fixture(scope="module")
async def docket(parts: Parts) -> AsyncIterator[Docket]:
    made = Docket(parts)
    yield made
    await made.close()


def load(parts: Parts, name: str, *, branch: bool = False) -> contextlib.AbstractAsyncContextManager[Sender]:
    """`branch`: of the tenant whose first mail account is at a port where nobody listens."""
    return sending(name, urls=parts.urls, key=parts.branch_key if branch else parts.key)


def everything(name: str, parts: Parts, **fields: Any) -> list[dict[str, Any]]:
    """Two in three to one address, each third to a user over two channels."""
    box_url = parts.box.http_url
    singles, both = mixed(name, 60, box_url=box_url, **fields), chains(30, **fields)
    return [body for place, one in enumerate(both) for body in (*singles[2 * place : 2 * place + 2], one)]


@contextlib.asynccontextmanager
async def under_load(sender: Sender, parts: Parts, *, per_second: float = 40, **fields: Any) -> AsyncIterator[None]:
    """Mail, webhooks and chains in all lanes are offered meanwhile, and a moment before and after."""
    over, bodies = asyncio.Event(), everything(sender.name, parts, **fields)
    offering = asyncio.create_task(sender.offer(bodies, per_second=per_second, until=over))
    await asyncio.sleep(1.5)
    yield
    await asyncio.sleep(1)
    over.set()
    await offering


async def test_temporal_away_stops_no_accept_and_the_high_lane_comes_first(parts: Parts) -> None:
    async with load(parts, "away-low") as low, load(parts, "away-high") as high:
        await parts.kill("temporal")
        began_s = time.monotonic()
        await low.offer(hooks("slow-away", 300, box_url=parts.box.http_url, priority="low"), per_second=50)
        await high.offer(hooks("away-high", 40, box_url=parts.box.http_url, priority="high"), per_second=50)
        assert [(s.refused, s.broken) for s in (low, high)] == [(0, 0)] * 2
        await asyncio.sleep(max(0.0, began_s + AWAY_S - time.monotonic()))
        await parts.start("temporal")
        await check(low, high, parts=parts, unknowns=False)
        assert arrivals(parts, high)[-1].received_at < arrivals(parts, low)[150].received_at


def arrivals(parts: Parts, sender: Sender) -> list[Item]:
    """What was taken of this sender, in the order in which it came."""
    ids, (items, _) = set(sender.ids.values()), parts.box.record.find(limit=1_000_000)
    return [i for i in reversed(items) if i.seen.taken and (i.seen.delivery or "").rpartition("-")[0] in ids]


async def test_receivers_that_misbehave(parts: Parts) -> None:
    """Slow, failing in bursts, asking to come later, answering nonsense, cutting and resetting the connection
    after the request; those
    of others get their messages meanwhile."""
    async with contextlib.AsyncExitStack() as stack:
        each = {word: await stack.enter_async_context(load(parts, f"bad-{word}")) for word in (*WORDS, "well")}
        for word, sender in each.items():
            bodies = hooks(word, 30, box_url=parts.box.http_url, priority="high", expires_in=20)
            await sender.offer(bodies, per_second=200)
        await check(each["well"], parts=parts, unknowns=False)
        for word, (ends, unknowns) in WORDS.items():
            await check(each[word], parts=parts, ends=ends, unknowns=unknowns)


@pytest.mark.parametrize("name", KILLED)
async def test_killed_and_started_again(parts: Parts, docket: Docket, name: str) -> None:
    """With messages in flight: what was accepted is not lost, and nothing is sent twice in silence."""
    branch = await docket.sender(f"killed-{name}-branch", branch=True)
    failing_over = [body for lane in ("high", "medium", "low") for body in mails(f"branch+{name}", 10, priority=lane)]
    async with under_load(await docket.sender(f"killed-{name}"), parts), asyncio.TaskGroup() as beside:
        beside.create_task(branch.offer(failing_over, per_second=10))
        await asyncio.sleep(0.5)
        await parts.kill(name)
        await parts.start(name)


async def test_all_killed_at_once_and_started_again(parts: Parts, docket: Docket) -> None:
    """The machine went down."""
    sender = await docket.sender("killed-all")
    await sender.offer(everything("killed-all", parts), per_second=60)
    await asyncio.gather(*(parts.kill(name) for name in EVERYTHING))
    await parts.start("postgres", "temporal")
    await parts.start(*APIS, *WORKERS)
    await sender.offer(mixed("killed-all", 30, box_url=parts.box.http_url), per_second=60)


async def test_what_temporal_has_forgotten_is_driven_again(parts: Parts, docket: Docket) -> None:
    """Its database is deleted with workflows in it: PostgreSQL knows what is open."""
    await (await docket.sender("forgotten")).offer(crowd(parts), per_second=200)
    await parts.kill("temporal")
    parts.forget_workflows()
    await parts.start("temporal")


async def test_workflows_that_are_terminated_by_hand_are_replaced(parts: Parts, docket: Docket) -> None:
    await (await docket.sender("terminated")).offer(crowd(parts), per_second=200)
    assert await terminate_all(parts.temporal_address) > 0


def crowd(parts: Parts) -> list[dict[str, Any]]:
    """More for slow receivers than there are connections, so that most still wait."""
    bodies = []
    for lane in ("high", "low"):
        bodies += hooks("slow", 150, box_url=parts.box.http_url, priority=lane)
        bodies += mails("slow", 20, priority=lane)
    return bodies


async def terminate_all(address: str) -> int:
    client, ended = await Client.connect(address), 0
    async for workflow in client.list_workflows("WorkflowType = 'DeliveryWorkflow' AND ExecutionStatus = 'Running'"):
        await client.get_workflow_handle(workflow.id, run_id=workflow.run_id).terminate("by hand")
        ended += 1
    return ended


async def test_a_frozen_database_is_told_to_callers_in_time(parts: Parts, docket: Docket) -> None:
    """Every request has its 503 before its caller gives up, nothing piles up in memory, and then it goes on."""
    sender = await docket.sender("frozen")
    async with under_load(sender, parts, per_second=30):
        before = {name: resident_bytes(parts, name) for name in APIS}
        parts.send("postgres", signal.SIGSTOP)
        try:
            await asyncio.sleep(FROZEN_S)
            gained = {name: resident_bytes(parts, name) - before[name] for name in APIS}
        finally:
            parts.send("postgres", signal.SIGCONT)
    assert sender.refused > 0
    assert all(gain < GROWTH_BYTES for gain in gained.values()), gained
    await asyncio.gather(*(parts.until_ready(name) for name in (*APIS, *WORKERS)))


async def test_a_worker_that_is_frozen_in_a_transaction_holds_nobody_up(parts: Parts, docket: Docket) -> None:
    """The host of a worker is paused while that one holds locks: the lane's other worker goes on with its messages, and
    when it is back nothing was sent twice in silence."""
    await parts.start("workers-high-2")
    before, meanwhile = await docket.sender("frozen-worker"), await docket.sender("beside-a-frozen-worker")
    over = asyncio.Event()
    bodies = mixed("frozen-worker", 3000, box_url=parts.box.http_url, priority="high")
    offering = asyncio.create_task(before.offer(bodies, per_second=80, until=over))
    try:
        await frozen_in_a_transaction(parts, "workers-high")
        over.set()
        await offering
        await meanwhile.offer(mixed("beside", 60, box_url=parts.box.http_url, priority="high"), per_second=20)
        await asyncio.sleep(FROZEN_S)
        arrived = len(arrivals(parts, meanwhile))
    finally:
        parts.send("workers-high", signal.SIGCONT)
    assert arrived >= 0.9 * len(meanwhile.ids)
    await parts.stop("workers-high-2")


async def frozen_in_a_transaction(parts: Parts, name: str) -> None:
    """Stop it between two statements of a transaction that holds locks."""
    connection = await parts.connect()
    try:
        async with asyncio.timeout(60):
            while True:
                parts.send(name, signal.SIGSTOP)
                await asyncio.sleep(0.2)
                if await connection.fetchval(STAND_STILL):
                    return
                parts.send(name, signal.SIGCONT)
                await asyncio.sleep(0.03)
    finally:
        await connection.close()


def resident_bytes(parts: Parts, name: str) -> int:
    fields = Path(f"/proc/{parts.children[name].pid}/status").read_text().split("VmRSS:")[1]
    return int(fields.split()[0]) * 1024
