"""`python -m api` as an operator meets it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import NOWHERE, make_keys

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0


async def start(**settings: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TONGDA_")}
    environment |= {f"TONGDA_{name}": value for name, value in {"TEMPORAL_ADDRESS": NOWHERE, **settings}.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api",
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Exit code and what it said."""
    try:
        _, said = await asyncio.wait_for(process.communicate(), WITHIN_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode is not None
    return process.returncode, said.decode()


@contextlib.asynccontextmanager
async def serving(database: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process and its URL; killed at the end if it still runs."""
    process = await start(DATABASE_URL=database, API_PORT="0", SECRET_KEY="x" * 32)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(WITHIN_S):
            while (line := json.loads(await process.stderr.readline()))["event"] != "api.listening":
                pass
        yield process, f"http://127.0.0.1:{line['port']}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_taken_port_is_98_and_one_line(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = await ended(await start(DATABASE_URL=database, API_PORT=port))
    assert (code, said) == (98, f"tongda api: 127.0.0.1:{port} is in use by another process\n")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"API_PORT": "eighty"}, "TONGDA_API_PORT"),
        ({"SECRET_KEY": "short"}, "TONGDA_SECRET_KEY"),
        ({"DATABASE_URL": "postgresql://tongda:hunter2@127.0.0.1:9/x", "API_PORT": "0"}, "TONGDA_DATABASE_URL"),
        ({"API_HOST": "no.such.host.invalid"}, "cannot listen on no.such.host.invalid"),
    ],
)
async def test_what_cannot_work_is_1_and_one_line(settings: dict[str, str], says: str) -> None:
    code, said = await ended(await start(**settings))
    assert code == 1
    assert says in said
    assert len(said.splitlines()) == 1
    assert "hunter2" not in said
    assert "short" not in said.replace("TONGDA_SECRET_KEY needs", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_when_asked(database: str, number: signal.Signals) -> None:
    async with serving(database) as (process, url):
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{url}/readyz")).status_code == 200
        process.send_signal(number)
        code, said = await ended(process)
    assert code == 0
    assert "Traceback" not in said
    assert json.loads(said.splitlines()[-1])["event"] == "api.stopped"


async def test_what_was_being_answered_at_the_stop_is_answered(database: str) -> None:
    key = (await make_keys(database))["owner"]
    async with serving(database) as (process, url), httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http:
        body = {"to": {"email": "a@example.com"}, "content": {"title": "x"}}
        assert (await http.post(f"{url}/v1/notifications", json=body)).status_code == 202

        async def slowly() -> AsyncIterator[bytes]:
            raw = json.dumps(body).encode()
            yield raw[:10]
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            yield raw[10:]

        late = await http.post(f"{url}/v1/notifications", content=slowly(), headers={"content-type": "application/json"})
        assert late.status_code == 202
        assert (await ended(process))[0] == 0


async def test_a_huge_body_is_refused_while_it_comes(database: str) -> None:
    key = (await make_keys(database))["owner"]

    async def blanks(mebibytes: int) -> AsyncIterator[bytes]:
        for _ in range(4 * mebibytes):
            yield b" " * (1 << 18)

    headers = {"Authorization": f"Bearer {key}", "content-type": "application/json"}
    async with serving(database) as (_, url), httpx.AsyncClient(headers=headers) as http:
        for path in ("/v1/notifications", "/v1/users"):
            answer = await http.post(f"{url}{path}", content=blanks(4))
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            with contextlib.suppress(httpx.TransportError):  # the server closes under the rest of the body, as it may
                answer = await http.post(f"{url}{path}", content=blanks(64))
                assert answer.status_code == 413
        assert (await http.get(f"{url}/v1/users")).json()["items"] == []
