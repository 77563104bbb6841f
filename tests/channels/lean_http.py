"""A small HTTP server whose every answer can be scripted, byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.channels.lean_smtp import CLOSE, RESET, STALL

__all__ = ["CLOSE", "OK", "RESET", "STALL", "LeanHttp", "lean_http"]

OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class LeanHttp:
    """`script` holds raw answers, used up in order before OK. "!close" after an answer closes the connection."""

    port: int = 0
    script: deque[str] = field(default_factory=deque)
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Head and body of every request that was read to its end."""
    connections: int = 0
    served: Counter[int] = field(default_factory=Counter)
    """Requests by connection, in the order of their opening."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def then(self, *answers: str) -> None:
        self.script.extend(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        place = self.connections
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [int(v[15:]) for v in head.lower().split(b"\r\n") if v.startswith(b"content-length:")]
                self.requests.append((head, await reader.readexactly(length[0]) if length else b""))
                self.served[place] += 1
                answer, mark, action = (self.script.popleft() if self.script else OK).partition("!")
                writer.write(answer.encode())
                action = mark + action
                if action == RESET:
                    writer.transport.abort()
                elif action == CLOSE:
                    writer.close()
                elif action == STALL:
                    await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.writers.remove(writer)
            writer.close()


@asynccontextmanager
async def lean_http(tls: ssl.SSLContext | None = None) -> AsyncIterator[LeanHttp]:
    lean = LeanHttp()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(lean.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    lean.port = server.sockets[0].getsockname()[1]
    try:
        yield lean
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
