"""`python -m sandbox` as an operator meets it: health, stopping, exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import aiohttp
import pytest

import sandbox
from tests.sandbox.mails import RawClient

ROOT = Path(__file__).parents[2]
HANG_S = 120.0
"""What the sandbox has a client wait that asked for it."""


async def started(**environment: str) -> asyncio.subprocess.Process:
    ports = {"TONGDA_SANDBOX_SMTP_PORT": "0", "TONGDA_SANDBOX_HTTP_PORT": "0"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "sandbox"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | ports | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serves_and_stops_at_once(number: signal.Signals, http: aiohttp.ClientSession) -> None:
    process = await started()
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    smtp, url = line.removeprefix("sandbox: SMTP ").strip().split(", HTTP ")
    async with http.get(f"{url}/healthz") as response:
        assert (response.status, await response.json()) == (200, {"smtp": True, "http": True})
    # A stuck client, an open mail connection and an open event stream must not hold it up.
    stuck = asyncio.create_task(
        http.post(f"{url}/hook/hang", json={}, headers={"webhook-id": "a", "webhook-timestamp": "1"})
    )
    reader, writer = await asyncio.open_connection(*smtp.split(":"))
    await reader.readline()
    async with http.get(f"{url}/events"):
        started_at = time.monotonic()
        process.send_signal(number)
        _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    assert time.monotonic() - started_at < HANG_S / 2
    with pytest.raises(aiohttp.ClientError):
        await stuck
    writer.close()


@pytest.mark.parametrize("which", ["SMTP", "HTTP", "SINK"])
async def test_a_taken_port_is_exit_code_98_and_one_line(which: str, box: sandbox.Box) -> None:
    process = await started(**{f"TONGDA_SANDBOX_{which}_PORT": str(box.smtp_port)})
    _, errors = await process.communicate()
    assert process.returncode == 98
    assert errors.decode().count("\n") == 1
    assert str(box.smtp_port) in errors.decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TONGDA_SANDBOX_SMTP_PORT", "99999"),
        ("TONGDA_SANDBOX_HTTP_PORT", "http"),
        ("TONGDA_SANDBOX_SMTP_USERNAME", "tongda"),
        ("TONGDA_SANDBOX_TLS_CERT", "/nowhere"),
        ("TONGDA_WEBHOOK_SECRET", "whsec_!"),
    ],
)
async def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    process = await started(**{name: value})
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith("sandbox: ")
    assert name in errors.decode()


async def test_closing_cuts_open_connections() -> None:
    async with sandbox.running() as box:
        client = await RawClient.greeted(box)
    assert await client.say(b"NOOP") == ""
    await client.close()
