"""The short way of `POST /v1/notifications` answers as the usual way does, and leaves to it what is unusual."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from api.__main__ import Server
from api.accept.asgi import AcceptRoutes
from api.accept.protocol import MOST_BYTES, protocol_of
from api.app import create_app
from api.container import open_container
from infra.postgres.bootstrap import bootstrap
from infra.settings import Settings
from tests.accept.conftest import NOWHERE, body

USUAL = "content-encoding: identity"
"""A header that means nothing and sends a request the usual way."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def comparable(self) -> tuple[int, dict[str, str], Any]:
        """Without what differs from one request to the next."""
        headers = {k: v for k, v in self.headers.items() if k not in {"date", "location", "x-request-id"}}
        shown = json.loads(re.sub(rb"[0-9a-f-]{36}", b"id", self.body)) if self.body else None
        return self.status, headers, shown


@dataclass
class Client:
    """One keep-alive connection, by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: str

    def request(self, raw: bytes, *more: str, key: str | None = None, length: int | None = None) -> bytes:
        lines = ["POST /v1/notifications HTTP/1.1", "Host: x", "Content-Type: application/json", *more]
        lines.append(f"Authorization: Bearer {self.key if key is None else key}")
        if length is None and not any("chunked" in line for line in more):
            length = len(raw)
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode() + raw

    async def answer(self) -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().strip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        return Answer(int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"])))

    async def post(self, what: Any, *more: str, key: str | None = None) -> Answer:
        raw = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.writer.write(self.request(raw, *more, key=key))
        return await self.answer()


@dataclass
class Running:
    """The API on a socket of its own."""

    port: int
    key: str
    server: Server
    stored: Any
    direct: list[bool] = field(default_factory=list)
    """What became of each request that was tried the short way: True where it was answered there."""

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        yield Client(reader, writer, self.key)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def running(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    key = await bootstrap(database, tenant="acme", app="shop", name="test", roles=["owner"])
    settings = Settings(
        database_url=SecretStr(database), temporal_address=NOWHERE, secret_key=SecretStr("0123456789abcdef" * 2)
    )
    async with open_container(settings) as container:
        app = create_app(settings, container=container)
        assert app.accept is not None
        config = uvicorn.Config(
            app, http=protocol_of(app.accept), lifespan="off", access_log=False, log_config=None, server_header=False,
            timeout_graceful_shutdown=10,
        )  # fmt: skip
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        pool = container.database.pool
        await pool.execute("INSERT INTO person (tenant, id, state) VALUES ('acme', 'u-1', 'active')")
        up = Running(listener.getsockname()[1], key, server, pool)
        at_once = AcceptRoutes.answer_at_once

        def watched(self: AcceptRoutes, *args: Any, **kwargs: Any) -> bool:
            up.direct.append(at_once(self, *args, **kwargs))
            return up.direct[-1]

        monkeypatch.setattr(AcceptRoutes, "answer_at_once", watched)
        async with up.connection() as client:  # so that the key is known
            await client.post(body())
        up.direct.clear()
        yield up
        server.should_exit = True
        await serving


async def test_a_refusal_with_a_key_goes_the_usual_way(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is asked whether it was accepted before, when a rule was another."""
    what = body(metadata={"order": "A-77"})
    async with running.connection() as client:
        first = await client.post(what, "Idempotency-Key: k")
        monkeypatch.setattr("api.accept.rules.MOST_METADATA_BYTES", 2)
        again = await client.post(what, "Idempotency-Key: k")
        refused = await client.post(what)
        new = await client.post(what, "Idempotency-Key: other")
    assert (first.status, again.status, again.body) == (202, 200, first.body)
    assert again.headers["idempotent-replay"] == "true"
    assert (refused.status, new.status) == (422, 422)
    assert running.direct == [True, False, True, False]


async def count(running: Running) -> int:
    value: int = await running.stored.fetchval("SELECT count(*) FROM notification")
    return value


@pytest.mark.parametrize(
    "what",
    [
        body(), body(priority="high"), body(colour="red"), body(to={"email": "no"}), body(metadata={"n": 1}),
        b"{", b"[]", b'{"to": "\\u0000"}', b"\xff", body(send_at="2020-01-01"), body(template="none"),
    ],
)  # fmt: skip
async def test_both_ways_answer_alike(running: Running, what: Any) -> None:
    async with running.connection() as client:
        short, usual = await client.post(what), await client.post(what, USUAL)
    assert short.comparable == usual.comparable
    assert len(running.direct) == 1
    assert short.headers["date"]


async def test_a_key_is_replayed_across_both_ways(running: Running) -> None:
    async with running.connection() as client:
        first = await client.post(body(), "Idempotency-Key: k")
        again = await client.post(body(), "Idempotency-Key: k")
        usual = await client.post(body(), "Idempotency-Key: k", USUAL)
        other = await client.post(body(priority="high"), "Idempotency-Key: k")
        bad = await client.post(body(), "Idempotency-Key: " + "k" * 300)
    assert (first.status, again.status, usual.status, other.status, bad.status) == (202, 200, 200, 409, 422)
    assert first.body == again.body == usual.body
    assert again.headers["idempotent-replay"] == "true"
    assert running.direct == [True] * 4
    assert await count(running) == 2


async def test_what_has_to_be_asked_for_goes_the_usual_way_once(running: Running) -> None:
    async with running.connection() as client:
        for _ in range(2):
            assert (await client.post(body(to={"user": "u-1"}))).status == 202
        assert (await client.post(body(to={"user": "u-404"}))).status == 422
        assert (await client.post(body(), key="tk_wrong")).status == 401
        assert (await client.post(body(), key="tk_wrong")).status == 401
    assert running.direct == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("more", "raw"),
    [
        (["Transfer-Encoding: chunked"], b"%x\r\n%s\r\n0\r\n\r\n"),
        (["Content-Type: text/plain"], None),
        (["Content-Encoding: gzip"], None),
    ],
)
async def test_unusual_requests_are_not_tried(running: Running, more: list[str], raw: bytes | None) -> None:
    whole = json.dumps(body()).encode()
    async with running.connection() as client:
        request = client.request(raw % (len(whole), whole) if raw else whole, *more)
        if more[0].startswith("Content-Type"):
            request = request.replace(b"Content-Type: application/json\r\n", b"")
        client.writer.write(request)
        answer = await client.answer()
        assert answer.status == (202 if raw else 415)
        after = await client.post(body())
        assert after.status == 202, "the connection goes on"
    assert running.direct == [True]


async def test_a_body_in_pieces_and_a_large_one(running: Running) -> None:
    large = body(content={"title": "t", "text": "x" * MOST_BYTES})
    async with running.connection() as client:
        request = client.request(json.dumps(body()).encode())
        for piece in (request[:20], request[20:-5], request[-5:]):
            client.writer.write(piece)
            await asyncio.sleep(0.02)
        assert (await client.answer()).status == 202
        assert (await client.post(large)).status == 202
    assert running.direct == [True]


async def test_expect_continue_is_answered_before_the_body(running: Running) -> None:
    raw = json.dumps(body()).encode()
    async with running.connection() as client:
        client.writer.write(client.request(b"", "Expect: 100-continue", length=len(raw)))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(raw)
        assert (await client.answer()).status == 202


async def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    async with running.connection() as client:
        good, bad = client.request(json.dumps(body()).encode()), client.request(json.dumps(body(colour="red")).encode())
        client.writer.write(good + bad + good + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + good)
        assert [(await client.answer()).status for _ in range(5)] == [202, 422, 202, 200, 202]
    assert await count(running) == 4


async def test_connection_close_is_kept(running: Running) -> None:
    async with running.connection() as client:
        answer = await client.post(body(), "Connection: close")
        assert answer.headers["connection"] == "close"
        assert await client.reader.read() == b""


async def test_a_client_that_leaves_is_stored_all_the_same(running: Running) -> None:
    async with running.connection() as client:
        client.writer.write(client.request(json.dumps(body()).encode()))
        await client.writer.drain()
        client.writer.transport.abort()
    async with running.connection() as client:
        assert (await client.post(body())).status == 202
    for _ in range(100):
        if await count(running) == 3:
            break
        await asyncio.sleep(0.02)
    assert await count(running) == 3


async def test_a_stop_answers_what_was_taken(running: Running) -> None:
    """The COMMIT waits for a lock, and the process is told to stop: the answer comes, then the connection ends."""
    async with running.connection() as client, running.stored.acquire() as holder:
        async with holder.transaction():
            await holder.execute("LOCK TABLE notification IN SHARE MODE")
            client.writer.write(client.request(json.dumps(body()).encode()))
            await asyncio.sleep(0.1)
            running.server.should_exit = True
            await asyncio.sleep(0.3)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert await client.reader.read() == b""
