"""Server-sent events that end: with the reader, with the server, and with a reader who stops reading."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SEND_TIMEOUT_S = 20.0
"""A reader who takes nothing for so long, with full buffers between us, is cut off."""

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # nginx would hold events back
}
_log = structlog.get_logger(__name__)


def event(*, name: str, data: str, cursor: str | None = None) -> bytes:
    """One event; `data` is JSON and therefore one line."""
    head = f"event: {name}\n" + (f"id: {cursor}\n" if cursor is not None else "")
    return f"{head}data: {data}\n\n".encode()


def heartbeat(cursor: str) -> bytes:
    """A comment, so that proxies keep the connection; and the position."""
    return f": heartbeat\nid: {cursor}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """How long a reader waits before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()


class EventStream(Response):
    """Sends `chunks`, at least one, as they come. The generator is closed in any case, and gives back what it holds."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], *, headers: Mapping[str, str] | None = None) -> None:
        self._chunks = chunks
        self.background = None
        self.status_code = 200
        self.init_headers({**_HEADERS, **(headers or {})})
        # No length is known: the body ends with the connection.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        sender = asyncio.create_task(self._send_all(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, gone):
                task.cancel()
            results = await asyncio.gather(sender, gone, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, TimeoutError | OSError):
                raise result

    async def _send_all(self, send: Send) -> None:
        started = False
        async with contextlib.aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                if not started:  # only now, so that what fails before the first event is answered with a problem
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                    started = True
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
