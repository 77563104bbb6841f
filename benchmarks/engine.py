"""Delivering: accepted -> handed over -> recorded, against one workflow for each notification in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx

from benchmarks import bodies
from benchmarks.baseline_runs import Baseline
from benchmarks.cpu import CpuMeter, us_each
from benchmarks.instance import Instance, empty_sink, empty_tables, sink_counts
from benchmarks.offering import offer, until

DONE_S = 300.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many notifications a round has."""

    rounds: int
    webhook: int
    smtp: int
    remote: int
    eager: int

    @classmethod
    def of(cls, *, quick: bool) -> Sizes:
        if quick:
            return cls(rounds=1, webhook=3_000, smtp=500, remote=200, eager=400)
        return cls(rounds=3, webhook=20_000, smtp=3_000, remote=1_000, eager=2_000)


class Delivering:
    def __init__(self, instance: Instance, database: asyncpg.Connection) -> None:
        self._instance = instance
        self._database = database

    async def webhooks(self, count: int) -> dict[str, Any]:
        """`count` webhooks in the low lane to the lean sink; checked by the sink's own count."""
        await empty_sink(self._instance)
        body = bodies.webhook(self._instance.sink_address, priority="low")
        figures = await self._deliver([body] * count)
        taken, distinct = await sink_counts(self._instance)
        return {**figures, "sink_taken": taken, "sink_distinct": distinct, "complete": taken == distinct == count}

    async def mails(self, count: int) -> dict[str, Any]:
        """`count` e-mails in the low lane over SMTP to the sandbox's strict server."""
        before = await self._mails_taken()
        figures = await self._deliver([bodies.mail(place) for place in range(count)])
        taken = await self._mails_taken() - before
        return {**figures, "sandbox_taken": taken, "complete": taken == count}

    async def _deliver(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """From the first accept to the last outcome that is recorded."""
        await empty_tables(self._database)
        batches = [bodies.batch(list(items[start : start + bodies.BATCH])) for start in range(0, len(items), bodies.BATCH)]
        meter, began = CpuMeter(self._instance.processes), time.perf_counter()
        await offer(self._instance, len(batches), body=batches.__getitem__, key=self._instance.key)
        offered_s = time.perf_counter() - began
        await self._until_recorded()
        took_s = time.perf_counter() - began
        used_s = meter.used_s()
        cohorts, successes = await self._database.fetchrow(
            "SELECT (SELECT count(DISTINCT cohort) FROM event WHERE type = 'planned'),"
            " (SELECT count(*) FROM delivery WHERE status IN ('sent', 'delivered'))"
        ) or (0, 0)
        return {
            "notifications": len(items),
            "per_second": round(len(items) / took_s),
            "offered_in_s": round(offered_s, 2),
            "took_s": round(took_s, 2),
            "cpu_s": used_s,
            "cpu_us_each": us_each(used_s, messages=len(items)),
            "cohorts": cohorts,
            "average_cohort": round(len(items) / max(1, cohorts), 1),
            "recorded_successes": successes,
        }

    async def _until_recorded(self) -> None:
        """Until no step is open any more: a work row goes in the transaction that records its outcome."""

        async def so() -> bool:
            return not await self._database.fetchval("SELECT EXISTS (SELECT FROM work)")

        await until(so, within_s=DONE_S, every_s=POLL_S, late="not everything that was accepted was recorded in time")

    async def _mails_taken(self) -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            query: dict[str, str | int] = {"channel": "email", "limit": 1}
            answer = await client.get(f"{self._instance.sandbox_url}/messages", params=query)
        return int(answer.raise_for_status().json()["count"])


async def measure(instance: Instance, database: asyncpg.Connection, *, quick: bool) -> dict[str, Any]:
    """All engine figures; see docs/performance.md for what each is."""
    sizes, delivering = Sizes.of(quick=quick), Delivering(instance, database)
    baseline = Baseline(instance, database)
    await baseline.make_tables()
    await delivering.webhooks(500)  # warms caches, connections and code
    cohorts: list[dict[str, Any]] = []
    remote: list[dict[str, Any]] = []
    eager: list[dict[str, Any]] = []
    for _ in range(sizes.rounds):
        cohorts.append(await delivering.webhooks(sizes.webhook))
        remote.append(await baseline.remote(sizes.remote))
        eager.append(await baseline.eager(sizes.eager))
    return {
        "cohorts": _median_round(cohorts),
        "smtp": _median_round([await delivering.mails(sizes.smtp) for _ in range(sizes.rounds)]),
        "one_workflow_each": _median_round(remote),
        "one_workflow_each_local_eager": _median_round(eager),
        "ratio": _ratio(cohorts, remote),
        "ratio_local_eager": _ratio(cohorts, eager),
        "cpu_ratio": _cpu_ratio(cohorts, remote),
    }


def _median_round(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The round with the median rate, whole, so that its figures belong together."""
    ordered = sorted(rounds, key=lambda r: r["per_second"])
    return {**ordered[len(ordered) // 2], "each_round": [r["per_second"] for r in rounds]}


def _ratio(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> float:
    each = [float(a["per_second"]) / float(b["per_second"]) for a, b in zip(ours, theirs, strict=True)]
    return round(statistics.median(each), 1)


def _cpu_ratio(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> float:
    each = [int(b["cpu_us_each"]["all"]) / int(a["cpu_us_each"]["all"]) for a, b in zip(ours, theirs, strict=True)]
    return round(statistics.median(each), 1)
