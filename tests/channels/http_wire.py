"""One HTTP connection of ours on a real transport, its other end in the test's hands; and answers to read from it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from channels.base import HttpReply
from infra.http_connection import HttpConnection, Origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ORIGIN = Origin(False, "receiver.example", 80)


@dataclass
class Wire:
    """A connection, its other end, and what its owner was told."""

    peer: socket.socket
    told: list[str] = field(default_factory=list)
    connection: HttpConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = HttpConnection(ORIGIN, owner=self)

    def made(self, connection: HttpConnection) -> None:
        self.told.append("made")

    def lost(self, connection: HttpConnection) -> None:
        self.told.append("lost")

    def send(self, *, wait_s: float = 60.0, head_only: bool = False) -> asyncio.Future[HttpReply]:
        deadline = asyncio.get_running_loop().time() + wait_s
        return self.connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", deadline=deadline, head_only=head_only)

    def read(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    ours, peer = socket.socketpair()
    wire = Wire(peer)
    await asyncio.get_running_loop().create_connection(lambda: wire.connection, sock=ours)
    try:
        yield wire
    finally:
        wire.connection.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        peer.close()
    assert wire.told == ["made", "lost"]


async def answered(pieces: Sequence[bytes], *, eof: bool = False, head_only: bool = False) -> tuple[HttpReply, bool]:
    """The reply to `pieces`, and whether the connection may be used again."""
    async with wired() as wire:
        answer = wire.send(head_only=head_only)
        wire.read(*pieces)
        if eof:
            wire.connection.eof_received()
        assert answer.done()
        return answer.result(), wire.connection.reusable


@dataclass(frozen=True)
class Case:
    raw: bytes
    reply: HttpReply
    again: bool = True
    eof: bool = False


def head(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


CASES = {
    "length": Case(OK, HttpReply(200, {"content-length": "2"}, b"ok")),
    "empty": Case(head("HTTP/1.1 500 No\nContent-Length: 0\n\n"), HttpReply(500, {"content-length": "0"}, b"")),
    "no reason": Case(head("HTTP/1.1 202 \nContent-Length: 0\n\n"), HttpReply(202, {"content-length": "0"}, b"")),
    "204": Case(head("HTTP/1.1 204 No Content\nA: b\n\n"), HttpReply(204, {"a": "b"}, b"")),
    "304": Case(head("HTTP/1.1 304 Same\nContent-Length: 9\n\n"), HttpReply(304, {"content-length": "9"}, b"")),
    "chunked": Case(
        head("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3;a=b\nabc\n2 \nde\n0\nTrailer: x\n\n"),
        HttpReply(200, {"transfer-encoding": "chunked"}, b"abcde"),
    ),
    "interim": Case(
        head("HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Hints\nLink: x\n\n") + OK,
        HttpReply(200, {"content-length": "2"}, b"ok"),
    ),
    "close": Case(
        head("HTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\nok"),
        HttpReply(200, {"connection": "close", "content-length": "2"}, b"ok"),
        again=False,
    ),
    "http/1.0": Case(
        head("HTTP/1.0 200 OK\nContent-Length: 2\n\nok"), HttpReply(200, {"content-length": "2"}, b"ok"), again=False
    ),
    "http/1.0 kept": Case(
        head("HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nok"),
        HttpReply(200, {"connection": "keep-alive", "content-length": "2"}, b"ok"),
    ),
    "until the end": Case(head("HTTP/1.1 200 OK\nA: b\n\nall"), HttpReply(200, {"a": "b"}, b"all"), again=False, eof=True),
    "cut": Case(
        head("HTTP/1.1 200 OK\nContent-Length: 9\n\nhalf"), HttpReply(200, {"content-length": "9"}, b"half"), False, True
    ),
    "bare LF": Case(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", HttpReply(200, {"content-length": "2"}, b"ok")),
    "folded": Case(
        head("HTTP/1.1 200 OK\nA: b\n c\nContent-Length: 0\n\n"), HttpReply(200, {"a": "b c", "content-length": "0"}, b"")
    ),
    "unicode": Case(
        "HTTP/1.1 200 OK\r\nA:  通达\t \r\na: \r\nContent-Length: 0\r\n\r\n".encode(),
        HttpReply(200, {"a": "", "content-length": "0"}, b""),
    ),
    "upgrade offered": Case(
        head("HTTP/1.1 200 OK\nUpgrade: h2c\nConnection: upgrade\nContent-Length: 2\n\nok"),
        HttpReply(200, {"upgrade": "h2c", "connection": "upgrade", "content-length": "2"}, b"ok"),
    ),
    "upgrade that nobody asked for": Case(
        head("HTTP/1.1 101 Up\nUpgrade: x\nConnection: upgrade\n\n"),
        HttpReply(101, {"upgrade": "x", "connection": "upgrade"}, b""),
        again=False,
    ),
}
