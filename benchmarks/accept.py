"""Accepting: durable POSTs against a bare FastAPI + pydantic POST without a database, in the same run."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx

from benchmarks import bare, bodies
from benchmarks.cpu import CpuMeter, us_each
from benchmarks.instance import CHECKOUT, LOOPBACK, Instance, empty_sink, empty_tables, free_port, leashed
from benchmarks.load import quantile_ms
from benchmarks.open_loop import Steady, open_loop
from benchmarks.wrk import CONNECTIONS, Figures, Generator, Target

ONE, BATCH = "/v1/notifications", "/v1/notifications/batch"
BATCH_CONNECTIONS = 4
WARM_S = 1.0
BUSY_ROUNDS, BUSY_ROUND_S = 3, 3.0
"""Short, because what a round accepts has to be delivered before the next begins."""
DRAIN_S = 240.0
OPEN_CONNECTIONS = 128
"""Connections of the open loop: with few of them it would be a closed loop whenever an answer takes longer than usual."""


@dataclass(frozen=True, slots=True)
class Length:
    """How long it takes."""

    rounds: int
    round_s: float

    @classmethod
    def of(cls, *, quick: bool) -> Length:
        return cls(3, 2.0) if quick else cls(5, 6.0)


class Accepting:
    """The measurements over one running instance and one bare server."""

    def __init__(self, instance: Instance, database: asyncpg.Connection, *, bare_port: int, length: Length) -> None:
        self._instance = instance
        self._database = database
        self._bare_port = bare_port
        self._length = length
        self._generator = Generator()

    async def measure(self) -> dict[str, Any]:
        single = await self._against_bare(bodies.encoded(bodies.scheduled_mail()))
        missing = await bodies.seed_user_and_template(self._instance)
        return {
            "generator": self._generator.description,
            "connections": CONNECTIONS,
            "rounds": self._length.rounds,
            "round_s": self._length.round_s,
            "single": single,
            "template_and_user": (
                {"skipped": missing} if missing else await self._against_bare(bodies.encoded(bodies.templated()))
            ),
            "while_delivering": await self._while_delivering(),
            "batch": await self._batch(),
            "open_loop": await self._open_loop(float(single["per_second"]) / 2),
        }

    async def _against_bare(self, body: bytes) -> dict[str, Any]:
        """A B A B ...: each round of ours against the bare one right after it; the median of the ratios."""
        ours = Target(self._instance.api_port, ONE, body, self._instance.key)
        plain = Target(self._bare_port, bare.PATH, body)
        for target in (ours, plain):
            await self._generator.run(target, duration_s=WARM_S)
        mine: list[Figures] = []
        theirs: list[Figures] = []
        cpu: list[int] = []
        for _ in range(self._length.rounds):
            await empty_tables(self._database)
            meter = CpuMeter(self._instance.processes)
            mine.append(await self._generator.run(ours, duration_s=self._length.round_s))
            messages = round(mine[-1].per_second * self._length.round_s)
            cpu.append(us_each(meter.used_s(), messages=messages)["all"])
            theirs.append(await self._generator.run(plain, duration_s=self._length.round_s))
        ratios = [a.per_second / b.per_second for a, b in zip(mine, theirs, strict=True)]
        return {
            **_medians(mine),
            "bare": _medians(theirs),
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(ratio, 2) for ratio in ratios],
            "cpu_us_each": round(statistics.median(cpu)),
        }

    async def _while_delivering(self) -> dict[str, Any]:
        """Low lane, due at once: API, workers, Temporal and PostgreSQL share the cores with the generator."""
        body = bodies.encoded(bodies.webhook(self._instance.sink_address, priority="low"))
        target = Target(self._instance.api_port, ONE, body, self._instance.key)
        rounds: list[Figures] = []
        for _ in range(BUSY_ROUNDS):
            await empty_sink(self._instance)
            await empty_tables(self._database)
            rounds.append(await self._generator.run(target, duration_s=BUSY_ROUND_S))
            await self._drained()
        return _medians(rounds)

    async def _drained(self) -> None:
        """Until nothing is to be delivered any more."""
        for _ in range(int(DRAIN_S / 0.2)):
            if not await self._database.fetchval("SELECT EXISTS (SELECT FROM work)"):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError("what was accepted in a round was not delivered in time")

    async def _batch(self) -> dict[str, Any]:
        body = bodies.batch([bodies.scheduled_mail()] * bodies.BATCH)
        target = Target(self._instance.api_port, BATCH, body, self._instance.key)
        await self._generator.run(target, duration_s=WARM_S, connections=BATCH_CONNECTIONS)
        rounds: list[Figures] = []
        for _ in range(self._length.rounds):
            await empty_tables(self._database)
            rounds.append(await self._generator.run(target, duration_s=self._length.round_s, connections=BATCH_CONNECTIONS))
        figures = _medians(rounds)
        return {
            **figures,
            "connections": BATCH_CONNECTIONS,
            "size": bodies.BATCH,
            "notifications_per_second": round(figures["per_second"] * bodies.BATCH),
        }

    async def _open_loop(self, per_second: float) -> dict[str, Any]:
        body = bodies.encoded(bodies.scheduled_mail())
        request = Target(self._instance.api_port, ONE, body, self._instance.key).request()
        runs: list[Steady] = []
        for _ in range(self._length.rounds):
            await empty_tables(self._database)
            runs.append(
                await open_loop(
                    self._instance.api_port,
                    request=request,
                    connections=OPEN_CONNECTIONS,
                    per_second=per_second,
                    duration_s=self._length.round_s,
                )
            )
        return {
            "generator": "benchmarks.open_loop (constant rate, from the intended send), a process of its own",
            "connections": OPEN_CONNECTIONS,
            "generator_share_of_a_core": round(statistics.median(run.cpu_s / run.took_s for run in runs), 2),
            "offered_per_second": round(per_second),
            "answered_per_second": round(statistics.median(run.per_second for run in runs)),
            "p50_ms": statistics.median(run.ms(0.5) for run in runs),
            "p99_ms": statistics.median(run.ms(0.99) for run in runs),
            "generator_late_p99_ms": statistics.median(quantile_ms(run.own_late_s, 0.99) for run in runs),
            "sent_late_share": round(statistics.median(run.sent_late / max(1, len(run.seconds)) for run in runs), 3),
            "refused": sum(count for run in runs for status, count in run.statuses.items() if status != "202"),
        }


def _medians(rounds: Sequence[Figures]) -> dict[str, Any]:
    return {
        "per_second": round(statistics.median(r.per_second for r in rounds)),
        "p50_ms": statistics.median(r.p50_ms for r in rounds),
        "p99_ms": statistics.median(r.p99_ms for r in rounds),
        "refused": sum(r.refused for r in rounds),
        "each_round": [round(r.per_second) for r in rounds],
    }


@contextlib.asynccontextmanager
async def _bare_server() -> AsyncIterator[int]:
    port = free_port()
    server = await asyncio.create_subprocess_exec(*leashed(["-m", "benchmarks.bare", str(port)]), cwd=CHECKOUT)
    try:
        await _until_answers(port)
        yield port
    finally:
        server.terminate()
        await server.wait()


async def _until_answers(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                await client.get(f"http://{LOOPBACK}:{port}/")
                return
            await asyncio.sleep(0.1)
    raise TimeoutError("the bare server did not start")


async def measure(instance: Instance, database: asyncpg.Connection, *, quick: bool) -> dict[str, Any]:
    """All accept figures; see docs/performance.md for what each is."""
    async with _bare_server() as bare_port:
        return await Accepting(instance, database, bare_port=bare_port, length=Length.of(quick=quick)).measure()
