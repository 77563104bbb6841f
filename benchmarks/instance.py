"""A service of our own to measure: started like a user does, in a temporary TONGDA_HOME, stopped with everything in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from cli.up import leash

CHECKOUT = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.1"
START_S = 180.0
STOP_S = 70.0
"""Longer than the supervisor waits for all of its children together."""
SETTLE_S = 2.0
"""After the start, so that the demo's last steps are not measured."""
HOT_TABLES = ("notification", "work", "cohort", "delivery", "event", "idempotency")


class NotStarted(Exception):
    """The service did not come up; the text holds the end of what it said."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Where a running service is."""

    api_url: str
    sandbox_url: str
    database_url: str
    temporal_address: str
    sink_port: int
    key: str
    processes: Mapping[str, int]
    """Name to process id: api, workers-high, workers, temporal, postgres, sandbox, supervisor."""

    @property
    def api_port(self) -> int:
        return int(self.api_url.rpartition(":")[2])

    @property
    def sink_address(self) -> str:
        return f"http://{LOOPBACK}:{self.sink_port}/hook"


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def running_service(**settings: str) -> AsyncIterator[Instance]:
    """Start everything, yield when the demo is over, stop it. `settings`: without their prefix. Raises NotStarted."""
    folder, sink = new_folder(), free_port()
    supervisor = _start_supervisor(folder, sink=sink, settings=settings)
    try:
        await _until_up(supervisor, folder)
        yield _published(folder, sink=sink)
    finally:
        await asyncio.to_thread(_stop_blocking, supervisor)
        shutil.rmtree(folder, ignore_errors=True)


def new_folder() -> Path:
    """A temporary folder that PostgreSQL's user can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="tongda-bench-"))
    folder.chmod(0o711)  # as root PostgreSQL runs as another user, who has to pass through
    return folder


def _published(folder: Path, *, sink: int) -> Instance:
    facts = json.loads((folder / "home" / "run.json").read_text())
    return Instance(
        api_url=facts["api_url"],
        sandbox_url=facts["sandbox_url"],
        database_url=facts["database_url"],
        temporal_address=facts["temporal_address"],
        sink_port=sink,
        key=Path(facts["key_file"]).read_text().strip(),
        processes=facts["processes"],
    )


def _said(folder: Path) -> str:
    return (folder / "up.log").read_text(errors="replace")


def _start_supervisor(folder: Path, *, sink: int, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The environment without `TONGDA_*`: what the operator has set for another instance does not count here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TONGDA_")}
    environment |= {
        "TONGDA_HOME": str(folder / "home"),
        "TONGDA_SANDBOX_SINK_PORT": str(sink),
        "TONGDA_LOG_LEVEL": "WARNING",
        **{f"TONGDA_{name}": value for name, value in settings.items()},
    }
    with (folder / "up.log").open("wb") as out:
        return subprocess.Popen(
            leashed(["-m", "cli.up"]),
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def leashed(arguments: Sequence[str]) -> list[str]:
    """A command of this Python that is told to stop (SIGTERM) when we end, however we end."""
    tie = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "-1", "-1"]
    return [*tie, sys.executable, *arguments]


async def _until_up(supervisor: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the screen that a start ends with was printed; run.json is there before."""
    deadline = asyncio.get_running_loop().time() + START_S
    while asyncio.get_running_loop().time() < deadline:
        if supervisor.poll() is not None:
            break
        if "Ctrl-C" in _said(folder):
            await asyncio.sleep(SETTLE_S)
            return
        await asyncio.sleep(0.1)
    lines = _said(folder).splitlines()[-20:]
    raise NotStarted("\n".join(["the service did not start:", *lines]))


def _stop_blocking(supervisor: subprocess.Popen[bytes]) -> None:
    """SIGTERM and its grace; what is left of its group afterwards is killed (its children are tied to its life)."""
    if supervisor.poll() is None:
        supervisor.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            supervisor.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(supervisor.pid, signal.SIGKILL)
    supervisor.wait()


async def empty_tables(connection: asyncpg.Connection) -> None:
    """Every round begins with the same, empty, hot tables."""
    await connection.execute(f"TRUNCATE {', '.join(HOT_TABLES)}")
    await connection.execute("CHECKPOINT")


async def sink_counts(instance: Instance) -> tuple[int, int]:
    """(messages, distinct ids) that the lean sink has taken since it was last emptied."""
    async with httpx.AsyncClient(trust_env=False) as client:
        said = (await client.get(f"{instance.sandbox_url}/sink")).raise_for_status().json()
    return int(said["count"]), int(said["distinct"])


async def empty_sink(instance: Instance) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.post(f"{instance.sandbox_url}/sink/reset")).raise_for_status()
