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
from typing import Any

import httpx
import pytest

from cli.up.ports import Ports
from tests.api.conftest import NOWHERE, make_keys
from tests.ports import lasting_port

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


async def said_so(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    """The log line of this event, once it is there."""
    assert process.stderr is not None
    async with asyncio.timeout(WITHIN_S):
        while raw := await process.stderr.readline():
            line: dict[str, Any] = json.loads(raw)
            if line["event"] == event:
                return line
    raise AssertionError(f"it ended without saying {event}")


@contextlib.asynccontextmanager
async def serving(database: str, **settings: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process and its URL; killed at the end if it still runs."""
    process = await start(DATABASE_URL=database, API_PORT="0", SECRET_KEY="x" * 32, **settings)
    try:
        line = await said_so(process, "api.listening")
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
        ({"DATABASE_URL": "postgresql://tongda:hunter2@127.0.0.1:many/x", "API_PORT": "0"}, "TONGDA_DATABASE_URL"),
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


async def test_a_database_that_does_not_let_us_in_is_1_and_one_line(database: str) -> None:
    """Otherwise it would wait for ever for what only an administrator can mend."""
    scheme, _, rest = database.partition("://")
    url = f"{scheme}://tongda:hunter2@{rest.rpartition('@')[2]}"
    code, said = await ended(await start(DATABASE_URL=url, API_PORT="0"))
    assert code == 1
    assert len(said.splitlines()) == 1
    assert "TONGDA_DATABASE_URL" in said
    assert "hunter2" not in said


async def test_it_waits_for_a_database_that_is_not_there_yet(database: str) -> None:
    """Caught: it ended with 1, and an installation whose parts come up in any order needed somebody to start it again."""
    address = database.rpartition("@")[2].partition("/")[0]
    host, _, port = address.partition(":")
    late = lasting_port(Ports())  # nobody listens there: refused
    process = await start(DATABASE_URL=database.replace(address, f"127.0.0.1:{late}"), API_PORT="0")
    try:
        assert "code" in await said_so(process, "database.waiting")
        async with forwarded(late, host=host, port=int(port)):
            line = await said_so(process, "api.listening")
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"http://127.0.0.1:{line['port']}/readyz")).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert (await ended(process))[0] == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_it_stops_while_it_waits_for_the_database() -> None:
    process = await start(DATABASE_URL="postgresql://tongda@127.0.0.1:9/x", API_PORT="0")
    await said_so(process, "database.waiting")
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0


@contextlib.asynccontextmanager
async def forwarded(at: int, *, host: str, port: int) -> AsyncIterator[None]:
    """Whoever connects to 127.0.0.1:`at` reaches host:port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", at)
    try:
        yield
    finally:
        server.close()


async def test_a_load_balancer_is_told_before_the_port_closes(database: str) -> None:
    """Otherwise it goes on sending to a port that has closed, and callers see refused connections with each deploy."""
    key = (await make_keys(database))["owner"]
    headers = {"Authorization": f"Bearer {key}"}
    body = {"to": {"email": "a@example.com"}, "content": {"title": "x"}}
    async with serving(database, API_DRAIN_NOTICE_S="3") as (process, url), httpx.AsyncClient(headers=headers) as http:
        assert "connection" not in (await http.post(f"{url}/v1/notifications", json=body)).headers
        process.send_signal(signal.SIGTERM)
        await said_so(process, "api.draining")
        assert (await http.get(f"{url}/readyz")).status_code == 503
        answer = await http.post(f"{url}/v1/notifications", json=body)
        assert (answer.status_code, answer.headers["connection"]) == (202, "close")
        assert (await ended(process))[0] == 0


async def test_a_second_signal_waits_for_no_load_balancer(database: str) -> None:
    async with serving(database, API_DRAIN_NOTICE_S="300") as (process, _):
        process.send_signal(signal.SIGTERM)
        await said_so(process, "api.draining")
        process.send_signal(signal.SIGTERM)
        assert (await ended(process))[0] == 0


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
            await asyncio.sleep(2.0)
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
