"""Memory of every process over one long drain: where it begins, its peak, and whether it still grows at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.engine import Delivering
from benchmarks.instance import Instance

SAMPLE_S = 0.5
MIB = 1 << 20
_PPID = 1
"""Place after the command name in /proc/<pid>/stat (proc(5): field 4)."""


def resident_bytes(pid: int) -> int:
    """What a process and its children hold in memory. Shared pages count once in all (PSS): PostgreSQL's backends
    would otherwise each count its buffers."""
    return sum(_proportional_bytes(member) for member in (pid, *_children(pid)))


def _children(pid: int) -> Sequence[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(fields[_PPID]) == pid:
                found.append(int(entry))
    return found


def _proportional_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class MemoryMeter:
    """Samples of every process, (seconds since the beginning, bytes) each."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = {name: pid for name, pid in processes.items() if name != "supervisor"}
        self._began_s = time.monotonic()
        self.samples: dict[str, list[tuple[float, int]]] = {name: [] for name in self._processes}

    def sample_blocking(self) -> None:
        for name, pid in self._processes.items():
            self.samples[name].append((time.monotonic() - self._began_s, resident_bytes(pid)))

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Every `SAMPLE_S` meanwhile, and at both ends."""

        async def sample() -> None:
            while True:
                await asyncio.to_thread(self.sample_blocking)
                await asyncio.sleep(SAMPLE_S)

        task = asyncio.create_task(sample())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(self.sample_blocking)

    def figures(self) -> dict[str, dict[str, float]]:
        return {name: summary(samples) for name, samples in self.samples.items()}


def summary(samples: Sequence[tuple[float, int]]) -> dict[str, float]:
    """In MiB; the slope is that of the second half, when caches and pools are full."""
    sizes = [size / MIB for _, size in samples]
    late = samples[len(samples) // 2 :]
    slope = 0.0
    if len(late) > 1:
        slope = statistics.linear_regression([at for at, _ in late], [size / MIB for _, size in late]).slope
    return {
        "start_mib": round(sizes[0], 1),
        "peak_mib": round(max(sizes), 1),
        "end_mib": round(sizes[-1], 1),
        "slope_mib_per_minute": round(slope * 60, 2),
        "samples": len(samples),
    }


async def measure(instance: Instance, database: asyncpg.Connection, *, quick: bool) -> dict[str, Any]:
    """One drain of webhooks in the low lane to the lean sink; its rate is beside the memory, with the proof."""
    delivering = Delivering(instance, database)
    await delivering.webhooks(500)  # warms caches, connections and code
    meter = MemoryMeter(instance.processes)
    async with meter.sampling():
        drained = await delivering.webhooks(5_000 if quick else 100_000)
    return {"drain": drained, "memory": meter.figures()}
