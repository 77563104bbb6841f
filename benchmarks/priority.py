"""Priority: a lone high-lane message while the low lane drains, the low lane under a saturated high one, a noisy tenant.

The high lane's time is from the 202 to the provider's own record, to the millisecond (the sandbox's strict target, which
knows the first tenant's secret only). The quiet tenants' is from accept to the provider's answer, by the database's clock.
All else goes to the lean sink.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from benchmarks import bodies
from benchmarks.instance import Instance, empty_sink, empty_tables, sink_counts
from benchmarks.load import closed_loop, quantile_ms
from benchmarks.offering import Lanes, client, offer, until
from benchmarks.wrk import Target
from infra.postgres.bootstrap import bootstrap

PAUSE_S = 0.15
"""Between two lone messages in the high lane."""
EACH_S = 0.1
"""A quiet tenant sends this often."""
QUIET = ("quiet-b", "quiet-c", "quiet-d", "quiet-e")
ARRIVED_S = 60.0
WARM = 20
MOST_LONE = 10_000
FLOODERS = 16
"""Connections that offer the high lane more than it can take."""
FLOOD_LIFE_S = 5
DONE_S, LOOK_S, BEGUN_S = 600.0, 0.1, 10.0
LOW, MEDIUM = 2, 1
_ANSWERED = """
SELECT extract(epoch FROM min(e.at) - n.accepted_at)::float8 AS s FROM notification n
JOIN event e ON e.notification_id = n.id AND e.type = 'attempt'
WHERE n.id = ANY ($1::uuid[]) GROUP BY n.id, n.accepted_at"""


@dataclass(frozen=True, slots=True)
class Sizes:
    lone: int
    drain: int
    saturated_s: float
    noise: int
    quiet_s: float

    @classmethod
    def of(cls, *, quick: bool) -> Sizes:
        if quick:
            return cls(lone=40, drain=6_000, saturated_s=4.0, noise=4_000, quiet_s=6.0)
        return cls(lone=200, drain=100_000, saturated_s=30.0, noise=50_000, quiet_s=20.0)


class Priority:
    def __init__(self, instance: Instance, database: asyncpg.Connection) -> None:
        self._instance = instance
        self._database = database
        self._lanes = Lanes(database)
        self._round = 0

    async def lone(self, count: int, *, until_drained: bool = False) -> dict[str, Any]:
        """High-lane messages one every PAUSE_S; with `until_drained` as long as the low lane has work, `count` at most."""
        hook = self._hook()
        accepted: dict[str, float] = {}
        async with client(self._instance, self._instance.key) as api:
            for _ in range(count):
                if until_drained and not await self._lanes.any_open(LOW):
                    break
                await asyncio.sleep(PAUSE_S)
                accepted |= await self._send(api, f"{self._instance.sandbox_url}/hook/{hook}", priority="high")
        return await self._figures(hook, accepted)

    async def drained_alone(self, count: int) -> dict[str, Any]:
        """The low lane by itself."""
        await self._fresh()
        began = time.perf_counter()
        await self._offer(count, priority="low", key=self._instance.key)
        await self._until_done(LOW)
        return _rate(count, time.perf_counter() - began)

    async def drained_beside(self, count: int, *, lone: int) -> dict[str, Any]:
        """The same while high-lane messages come one by one, and what these see."""
        await self._fresh()
        await self.lone(WARM)  # emptied tables have every statement planned anew
        began = time.perf_counter()
        offering = asyncio.create_task(self._offer(count, priority="low", key=self._instance.key))
        await self._begun(LOW)
        seen = await self.lone(lone, until_drained=True)
        await offering
        await self._until_done(LOW)
        took_s = time.perf_counter() - began
        taken, distinct = await sink_counts(self._instance)
        return {"high": seen, "low": {**_rate(count, took_s), "complete": taken == distinct == count}}

    async def saturated(self, count: int, *, duration_s: float) -> dict[str, Any]:
        """What the low lane does while the high lane is offered more than it can take."""
        await self._fresh()
        await self._offer(count, priority="low", key=self._instance.key)
        webhook = bodies.webhook(self._instance.sink_address, priority="high")
        body = bodies.encoded({**webhook, "expires_in": FLOOD_LIFE_S})  # so that what is too much does not wait for long
        request = Target(self._instance.api_port, "/v1/notifications", body, self._instance.key).request()
        before = await self._lanes.done(LOW), await self._lanes.done(0)
        began = time.perf_counter()
        run = await closed_loop(self._instance.api_port, requests=[request], connections=FLOODERS, duration_s=duration_s)
        took_s = time.perf_counter() - began
        low, high = await self._lanes.done(LOW) - before[0], await self._lanes.done(0) - before[1]
        waiting = await self._database.fetchval("SELECT count(*) FROM work WHERE lane = 0")
        return {
            "high_offered_per_second": round(run.per_second),
            "high_done_per_second": round(high / took_s),
            "high_waiting_at_the_end": waiting,
            "low_done_per_second": round(low / took_s),
            "low_open_at_the_end": await self._lanes.open(LOW),
        }

    async def tenants(self, *, noise: int, duration_s: float) -> dict[str, Any]:
        """Four tenants send one every EACH_S in the medium lane, without and then with a fifth that floods it."""
        url = self._instance.database_url
        loud, *quiet = [await bootstrap(url, tenant=name, app="bench", name="bench", roles=["owner"])
                        for name in ("loud-a", *QUIET)]  # fmt: skip
        await self._fresh()
        await self._together(quiet, duration_s=2.0)
        await self._fresh()
        alone = await self._together(quiet, duration_s=duration_s)
        await self._fresh()
        async with self._noise(noise, key=loud) as began:
            beside = await self._together(quiet, duration_s=duration_s, tenant="loud-a")
            left = await self._lanes.open(MEDIUM, tenant="loud-a")
            done = (noise - left) / (time.perf_counter() - began)
        return {"alone": alone, "beside": beside, "noise_per_second": round(done), "noise": noise}

    @contextlib.asynccontextmanager
    async def _noise(self, count: int, *, key: str) -> AsyncIterator[float]:
        began = time.perf_counter()
        offering = asyncio.create_task(self._offer(count, priority="medium", key=key))
        await self._begun(MEDIUM)
        try:
            yield began
        finally:
            await offering

    async def _together(self, keys: Sequence[str], *, duration_s: float, tenant: str = "") -> dict[str, Any]:
        """All quiet tenants at once; with `tenant` only as long as that one has work."""
        sent: set[UUID] = set()
        until_s = time.perf_counter() + duration_s

        async def one(place: int, key: str) -> None:
            due_s = time.perf_counter() + place * EACH_S / len(keys)
            async with client(self._instance, key) as api:
                while due_s < until_s:
                    await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                    if noise_is_over.is_set():
                        return
                    sent.update(map(UUID, await self._send(api, self._instance.sink_address, priority="medium")))
                    due_s += EACH_S

        noise_is_over = asyncio.Event()
        watch = asyncio.create_task(self._watch(tenant, noise_is_over)) if tenant else None
        await asyncio.gather(*(one(place, key) for place, key in enumerate(keys)))
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        return await self._answered(sent)

    async def _answered(self, sent: set[UUID]) -> dict[str, Any]:
        """From accept to the provider's first answer."""
        seconds: list[float] = []
        for _ in range(int(ARRIVED_S / LOOK_S)):
            seconds = [row["s"] for row in await self._database.fetch(_ANSWERED, list(sent))]
            if len(seconds) >= len(sent):
                break
            await asyncio.sleep(LOOK_S)
        return _quantiles(seconds, of=len(sent))

    async def _watch(self, tenant: str, over: asyncio.Event) -> None:
        async def so() -> bool:
            return await self._lanes.open(MEDIUM, tenant=tenant) == 0

        with contextlib.suppress(TimeoutError):
            await until(so, within_s=DONE_S, every_s=LOOK_S, late="")
        over.set()

    def _hook(self) -> str:
        self._round += 1
        return f"bench-priority-{self._round}"

    async def _send(self, api: httpx.AsyncClient, address: str, *, priority: str) -> dict[str, float]:
        """Its id and the moment of its 202."""
        body = bodies.encoded(bodies.webhook(address, priority=priority))
        answer = await api.post("/v1/notifications", content=body)
        return {str(answer.raise_for_status().json()["id"]): time.time()}

    async def _offer(self, count: int, *, priority: str, key: str) -> None:
        """Webhooks to the lean sink, through the batch route."""
        item = bodies.webhook(self._instance.sink_address, priority=priority)
        sizes = [min(bodies.BATCH, count - start) for start in range(0, count, bodies.BATCH)]
        await offer(self._instance, len(sizes), body=lambda place: bodies.batch([item] * sizes[place]), key=key)

    async def _begun(self, lane: int) -> None:
        async def so() -> bool:
            return await self._lanes.open(lane) > 0

        await until(so, within_s=BEGUN_S, every_s=0.01, late="nothing was offered in time")

    async def _until_done(self, lane: int) -> None:
        async def so() -> bool:
            return await self._lanes.open(lane) == 0

        await until(so, within_s=DONE_S, every_s=LOOK_S, late="a lane was not drained in time")

    async def _fresh(self) -> None:
        """Empty tables, once nothing is on its way."""
        for lane in (0, MEDIUM, LOW):
            await self._until_done(lane)
        await empty_sink(self._instance)
        await empty_tables(self._database)

    async def _figures(self, hook: str, accepted: dict[str, float]) -> dict[str, Any]:
        """From the 202 to the provider; what came to the provider before its 202 was read counts as 0."""
        arrived: dict[str, float] = {}
        deadline = time.perf_counter() + ARRIVED_S
        while time.perf_counter() < deadline and not accepted.keys() <= arrived.keys():
            await asyncio.sleep(0.2)
            arrived = await self._arrivals(hook, len(accepted))
        seconds = [max(0.0, arrived[one] - at) for one, at in accepted.items() if one in arrived]
        return _quantiles(seconds, of=len(accepted))

    async def _arrivals(self, hook: str, count: int) -> dict[str, float]:
        async with httpx.AsyncClient(trust_env=False) as client:
            query: dict[str, str | int] = {"recipient": hook, "limit": max(1, count)}
            answer = await client.get(f"{self._instance.sandbox_url}/messages", params=query)
        items = answer.raise_for_status().json()["items"]
        return {i["delivery"].rpartition("-")[0]: datetime.fromisoformat(i["received_at"]).timestamp() for i in items}


def _quantiles(seconds: Sequence[float], *, of: int) -> dict[str, Any]:
    quantiles = {f"p{round(share * 100)}_ms": quantile_ms(seconds, share) for share in (0.5, 0.95, 0.99)}
    return {"messages": of, "missing": of - len(seconds), **quantiles}


def _rate(count: int, took_s: float) -> dict[str, Any]:
    return {"notifications": count, "took_s": round(took_s, 2), "per_second": round(count / took_s)}


def _times(a: dict[str, Any], b: dict[str, Any], name: str) -> float:
    return round(float(a[name]) / max(0.1, float(b[name])), 2)


async def measure(instance: Instance, database: asyncpg.Connection, *, quick: bool) -> dict[str, Any]:
    """All priority figures; see docs/performance.md for what each is."""
    sizes, priority = Sizes.of(quick=quick), Priority(instance, database)
    await priority.lone(WARM)
    idle = await _said("idle", priority.lone(sizes.lone))
    alone = await _said("low lane alone", priority.drained_alone(sizes.drain))
    beside = await _said("high lane beside it", priority.drained_beside(sizes.drain, lone=MOST_LONE))
    saturated = await _said("high lane saturated", priority.saturated(sizes.drain, duration_s=sizes.saturated_s))
    tenants = await _said("noisy tenant", priority.tenants(noise=sizes.noise, duration_s=sizes.quiet_s))
    return {
        "idle": idle,
        "beside": beside,
        "p99_times_idle": _times(beside["high"], idle, "p99_ms"),
        "drained_alone": alone,
        "drain_share": round(beside["low"]["per_second"] / alone["per_second"], 2),
        "saturated": saturated,
        "tenants": tenants,
        "p95_times_alone": _times(tenants["beside"], tenants["alone"], "p95_ms"),
    }


async def _said(name: str, measuring: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """It takes minutes: each figure is shown when it is there."""
    figures = await measuring
    print(f"  {name}: {figures}", flush=True)
    return figures
