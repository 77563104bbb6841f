"""The lean sink for benchmarks: takes webhooks as fast as one loop can read them, and keeps only their ids.

It checks nothing: what is measured with it is the sender. The strict target is `hook`.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import web

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024

_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
_BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ONLY_POST = b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NEEDS_LENGTH = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Tally:
    """How many came, and how many different ids they had."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self.ids: set[bytes] = set()

    def add(self, message_id: bytes) -> None:
        """An empty id is counted, but is no id."""
        self.count += 1
        if message_id:
            self.ids.add(message_id)

    def report(self) -> dict[str, int]:
        return {"count": self.count, "distinct": len(self.ids)}


class SinkProtocol(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection; pipelined requests are answered with one write.

    A hand-made parser, because aiohttp's own server is below the rates that are measured: it reads a request line, two
    headers and a length, and skips the rest.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        answers: list[bytes] = []
        start = 0
        while True:
            end = buffer.find(b"\r\n\r\n", start)
            if end < 0:
                if len(buffer) - start > MAX_HEAD_BYTES:
                    return self._end(answers, _BAD)
                break
            head = buffer[start:end]
            if not head.startswith(b"POST "):
                return self._end(answers, _ONLY_POST)
            fields = head.lower() + b"\r\n"
            length = _field(fields, b"\r\ncontent-length:")
            if not length:
                return self._end(answers, _NEEDS_LENGTH)
            if not length.isdigit() or int(length) > MAX_BODY_BYTES:
                return self._end(answers, _BAD)
            after = end + 4 + int(length)
            if after > len(buffer):
                break
            self._tally.add(_field(fields, b"\r\nwebhook-id:"))
            answers.append(_TAKEN)
            start = after
            if b"\r\nconnection: close\r\n" in fields:
                return self._end(answers, b"")
        self._buffer = buffer[start:]
        if answers and self._transport is not None:
            self._transport.write(b"".join(answers))
        return None

    def _end(self, answers: list[bytes], last: bytes) -> None:
        if self._transport is not None:
            self._transport.write(b"".join([*answers, last]))
            self._transport.close()


def _field(fields: bytes, name: bytes) -> bytes:
    """A header's value from the lower-cased head; empty where it is missing."""
    at = fields.find(name)
    if at < 0:
        return b""
    return fields[at + len(name) : fields.index(b"\r\n", at + len(name))].strip()


class SinkServer:
    """The raw sink on a port of its own."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._server: asyncio.Server | None = None

    async def start(self, *, host: str, port: int) -> int:
        """The port it listens on. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SinkProtocol(self._tally), host, port, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()


def routes(tally: Tally) -> list[web.RouteDef]:
    """The same sink through aiohttp, and the reading of both."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        tally.add(request.headers.get("webhook-id", "").lower().encode())
        return web.Response(status=204)

    async def report(_request: web.Request) -> web.Response:
        return web.json_response(tally.report())

    async def reset(_request: web.Request) -> web.Response:
        tally.reset()
        return web.Response(status=204)

    return [web.post("/sink", take), web.get("/sink", report), web.post("/sink/reset", reset)]
