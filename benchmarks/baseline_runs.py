"""Runs `benchmarks.baseline` on the same PostgreSQL, Temporal and sink, and counts what it used."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import asyncpg

from benchmarks.cpu import CpuMeter, us_each
from benchmarks.instance import CHECKOUT, Instance, empty_sink, leashed, sink_counts

_TABLES = ("notification", "work", "delivery", "event")
_OURS = ("api", "workers", "workers-high", "supervisor")
"""Processes of the service that the baseline does without; the servers are left."""


class Baseline:
    def __init__(self, instance: Instance, database: asyncpg.Connection) -> None:
        self._instance = instance
        self._database = database

    async def make_tables(self) -> None:
        """The same columns, defaults and indexes in a schema of its own (without partitions, which costs it less)."""
        await self._database.execute("CREATE SCHEMA baseline")
        for table in _TABLES:
            await self._database.execute(f"CREATE TABLE baseline.{table} (LIKE public.{table} INCLUDING ALL)")
        await self._database.execute("ALTER TABLE baseline.work SET (fillfactor = 50)")

    async def remote(self, count: int) -> dict[str, Any]:
        """One workflow with one remote activity each; offerer and worker are two processes."""
        worker = await self._start("work", count=0)
        try:
            assert worker.stdout is not None
            await worker.stdout.readline()  # "ready"
            await self._empty()
            meter = CpuMeter({**self._servers(), "baseline-worker": worker.pid})
            figures = await self._offered(await self._start("offer", count=count), meter=meter)
        finally:
            worker.terminate()
            await worker.wait()
        return figures

    async def eager(self, count: int) -> dict[str, Any]:
        """One workflow with one local activity each, started eagerly in the process that offers."""
        await self._empty()
        return await self._offered(await self._start("both", count=count), meter=CpuMeter(self._servers()))

    async def _offered(self, offerer: asyncio.subprocess.Process, *, meter: CpuMeter) -> dict[str, Any]:
        said, _ = await offerer.communicate()
        used_s = meter.used_s()
        if offerer.returncode != 0 or not said:
            raise TimeoutError(f"the baseline ended with exit code {offerer.returncode}")
        told = json.loads(said.splitlines()[-1])
        used_s["baseline-offerer"] = round(told["cpu_s"], 2)
        count = int(told["count"])
        taken, distinct = await sink_counts(self._instance)
        recorded = await self._database.fetchval("SELECT count(*) FROM baseline.delivery WHERE status = 'delivered'")
        return {
            "notifications": count,
            "per_second": round(count / told["took_s"], 1),
            "took_s": round(told["took_s"], 2),
            "cpu_s": used_s,
            "cpu_us_each": us_each(used_s, messages=count),
            "sink_taken": taken,
            "sink_distinct": distinct,
            "complete": taken == distinct == recorded == count,
        }

    async def _empty(self) -> None:
        await empty_sink(self._instance)
        await self._database.execute(f"TRUNCATE {', '.join(f'baseline.{table}' for table in _TABLES)}")
        await self._database.execute("CHECKPOINT")

    def _servers(self) -> dict[str, int]:
        return {name: pid for name, pid in self._instance.processes.items() if name not in _OURS}

    async def _start(self, role: str, *, count: int) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TONGDA_")}
        environment |= {
            "TONGDA_DATABASE_URL": self._instance.database_url,
            "TONGDA_TEMPORAL_ADDRESS": self._instance.temporal_address,
            "TONGDA_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        command = leashed(["-m", "benchmarks.baseline", role, str(count), self._instance.sink_address])
        return await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, env=environment, stdout=asyncio.subprocess.PIPE)
