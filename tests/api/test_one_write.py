"""An answer leaves in one write, a stream begins before its first chunk, and nothing is held back at a close."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from api.one_write import OneWriteProtocol

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    if scope["path"] == "/stream":
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
    elif scope["path"] == "/gone":
        raise RuntimeError("after the head")
    else:
        await send({"type": "http.response.body", "body": b"onetwo"})


def connected() -> tuple[OneWriteProtocol, Wire]:
    config = Config(app, http=OneWriteProtocol, lifespan="off", access_log=False, log_config=None)
    config.load()
    protocol, wire = OneWriteProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def test_head_and_body_are_one_write() -> None:
    protocol, wire = connected()
    protocol.data_received(GET % b"/" + GET % b"/")
    await asyncio.sleep(0.02)
    assert len(wire.writes) == 2, "two answers on one connection"
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nonetwo") for answer in wire.writes)


async def test_a_stream_begins_before_its_first_chunk() -> None:
    protocol, wire = connected()
    protocol.data_received(GET % b"/stream")
    await asyncio.sleep(0.02)
    assert len(wire.writes) == 1
    assert wire.writes[0].endswith(b"\r\n\r\n")
    await asyncio.sleep(0.1)
    assert wire.writes[1:] == [b"one", b"two"]


async def test_a_head_is_sent_before_the_connection_is_closed() -> None:
    protocol, wire = connected()
    protocol.data_received(GET % b"/gone")
    await asyncio.sleep(0.02)
    assert wire.closed
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 200 OK\r\n")
