"""A lone high-lane message on an idle service, and what a message costs at a steady 200 a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from benchmarks import bodies
from benchmarks.cpu import CpuMeter, us_each
from benchmarks.instance import Instance, empty_sink, empty_tables, sink_counts
from benchmarks.load import quantile_ms
from benchmarks.open_loop import open_loop
from benchmarks.wrk import Target

HOOK = "bench-lone"
PAUSE_S = 0.15
"""Between two lone messages, so that the service is idle again."""
RECORDED_S = 10.0
POLL_S = 0.002
STEADY_PER_S = 200
WARM = 20
_RECORDED = "SELECT finished_at FROM notification WHERE id = $1 AND final"


@dataclass(frozen=True, slots=True)
class Lone:
    """Unix times of one message."""

    id: str
    sent: float
    accepted: float
    recorded: float


class Latency:
    def __init__(self, instance: Instance, database: asyncpg.Connection) -> None:
        self._instance = instance
        self._database = database

    async def lone(self, count: int) -> dict[str, Any]:
        """One after another; the provider's time is the sandbox's own record (to the millisecond)."""
        async with httpx.AsyncClient(
            base_url=self._instance.api_url,
            headers={"Authorization": f"Bearer {self._instance.key}", "Content-Type": "application/json"},
            trust_env=False,
        ) as api:
            for _ in range(WARM):
                await self._send(api)
            seen = [await self._send(api) for _ in range(count)]
        arrived = await self._arrivals(count + WARM)
        missing = [m.id for m in seen if m.id not in arrived]
        there = [m for m in seen if m.id in arrived]
        return {
            "messages": count,
            "missing": len(missing),
            "post_to_accepted": _quantiles([m.accepted - m.sent for m in there]),
            "accepted_to_provider": _quantiles([arrived[m.id] - m.accepted for m in there]),
            "post_to_provider": _quantiles([arrived[m.id] - m.sent for m in there]),
            "accepted_to_recorded": _quantiles([m.recorded - m.accepted for m in there]),
        }

    async def _send(self, api: httpx.AsyncClient) -> Lone:
        """One message, from its POST until its end is visible to another session."""
        address = f"{self._instance.sandbox_url}/hook/{HOOK}"
        body = bodies.encoded(bodies.webhook(address, priority="high"))
        await asyncio.sleep(PAUSE_S)
        sent = time.time()
        answer = await api.post("/v1/notifications", content=body)
        accepted = time.time()
        notification = str(answer.raise_for_status().json()["id"])
        deadline = accepted + RECORDED_S
        while await self._database.fetchval(_RECORDED, UUID(notification)) is None:
            if time.time() > deadline:
                raise TimeoutError("a lone message was not recorded in time")
            await asyncio.sleep(POLL_S)
        return Lone(notification, sent, accepted, time.time())

    async def _arrivals(self, count: int) -> dict[str, float]:
        """Notification id to Unix time, by the sandbox."""
        async with httpx.AsyncClient(trust_env=False) as client:
            query: dict[str, str | int] = {"recipient": HOOK, "limit": count}
            answer = await client.get(f"{self._instance.sandbox_url}/messages", params=query)
        items = answer.raise_for_status().json()["items"]
        return {i["delivery"].rpartition("-")[0]: datetime.fromisoformat(i["received_at"]).timestamp() for i in items}

    async def steady(self, duration_s: float) -> dict[str, Any]:
        """CPU a message at STEADY_PER_S single POSTs a second in the high lane, to the lean sink."""
        await empty_sink(self._instance)
        await empty_tables(self._database)
        body = bodies.encoded(bodies.webhook(self._instance.sink_address, priority="high"))
        request = Target(self._instance.api_port, "/v1/notifications", body, self._instance.key).request()
        idle_s = await self._idle_cpu_s(5.0)
        meter = CpuMeter(self._instance.processes)
        run = await open_loop(
            self._instance.api_port,
            request=request,
            connections=16,
            per_second=STEADY_PER_S,
            duration_s=duration_s,
        )
        for _ in range(100):
            if not await self._database.fetchval("SELECT EXISTS (SELECT FROM work)"):
                break
            await asyncio.sleep(0.1)
        used_s = meter.used_s()
        recorded = await self._database.fetch(
            "SELECT extract(epoch FROM d.updated_at - n.accepted_at)::float8 AS s FROM delivery d"
            " JOIN notification n ON n.id = d.notification_id WHERE d.status = 'delivered'"
        )
        _, distinct = await sink_counts(self._instance)
        cohorts = await self._database.fetchval("SELECT count(DISTINCT cohort) FROM event WHERE type = 'planned'")
        return {
            "offered_per_second": STEADY_PER_S,
            "messages": len(run.seconds),
            "sink_distinct": distinct,
            "average_cohort": round(len(recorded) / max(1, cohorts), 2),
            "post_to_accepted": _quantiles(run.seconds),
            "accepted_to_recorded": _quantiles([row["s"] for row in recorded]),
            "cpu_us_each": us_each(used_s, messages=len(run.seconds)),
            "idle_cpu_share_of_a_core": idle_s,
        }

    async def _idle_cpu_s(self, duration_s: float) -> dict[str, float]:
        """What runs without any message: CPU seconds a second by process."""
        meter = CpuMeter(self._instance.processes)
        await asyncio.sleep(duration_s)
        return {name: round(used / duration_s, 3) for name, used in meter.used_s().items()}


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{round(share * 100)}_ms": quantile_ms(seconds, share) for share in (0.5, 0.95, 0.99)}


async def measure(instance: Instance, database: asyncpg.Connection, *, quick: bool) -> dict[str, Any]:
    """All latency figures; see docs/performance.md for what each is."""
    latency = Latency(instance, database)
    return {"lone": await latency.lone(50 if quick else 200), "steady": await latency.steady(5.0 if quick else 15.0)}
