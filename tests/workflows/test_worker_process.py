"""A worker process from its start to its end, as an operator sees it: by its log, and by the sign that it gives."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

import asyncpg

from infra.postgres.tenants.worker_signs import Sign, signs

TOLD = ("worker.started", "worker.ready", "worker.draining", "worker.stopped")


async def told(process: Process, *, until: str) -> list[str]:
    """What it says of its life, up to that."""
    assert process.stderr is not None
    found = []
    while raw := await process.stderr.readline():
        line = json.loads(raw)
        if line["event"] in TOLD:
            assert line["lanes"] == "high,housekeeping"
            found.append(line["event"])
        if line["event"] == until:
            break
    return found


async def first_signs(connection: asyncpg.Connection) -> list[Sign]:
    """It is ready a moment before its first sign is written."""
    for _ in range(1000):
        if found := await signs(connection):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it gives no sign")


async def test_it_tells_its_life_and_which_lanes_it_serves(database: str, temporal_address: str) -> None:
    own = {
        "TONGDA_DATABASE_URL": database, "TONGDA_TEMPORAL_ADDRESS": temporal_address, "TONGDA_SECRET_KEY": "x" * 32,
    }  # fmt: skip
    environment = {**{n: v for n, v in os.environ.items() if not n.startswith("TONGDA_")}, **own}
    command = (sys.executable, "-m", "workers", "--lanes", "high,housekeeping")
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=PIPE)
    connection = await asyncpg.connect(database)
    try:
        async with asyncio.timeout(60):
            assert await told(process, until="worker.ready") == ["worker.started", "worker.ready"]
            assert [(one.lives, one.lanes) for one in await first_signs(connection)] == [
                (True, frozenset({"high", "housekeeping"}))
            ]
            process.send_signal(signal.SIGTERM)
            assert await told(process, until="worker.stopped") == ["worker.draining", "worker.stopped"]
            assert await process.wait() == 0
            assert await signs(connection) == [], "who ends in order is not missed"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await connection.close()
