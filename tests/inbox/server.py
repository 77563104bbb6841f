"""The API on a real port, as streaming needs it, and a reader of server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn

from api.__main__ import Server
from api.app import create_app
from api.container import Container, open_container
from infra.settings import Settings


@dataclass
class RunningApi:
    url: str
    container: Container
    server: uvicorn.Server
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """As a SIGTERM does."""
        self.container.stopping.set()
        self.server.should_exit = True
        await self.task


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[RunningApi]:
    listener = socket.create_server(("127.0.0.1", 0))
    async with open_container(settings) as container:
        config = uvicorn.Config(
            create_app(settings, container=container), lifespan="off", log_config=None, timeout_graceful_shutdown=20
        )
        server = Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        api = RunningApi(f"http://127.0.0.1:{listener.getsockname()[1]}", container, server, task)
        try:
            yield api
        finally:
            await api.stop()
            listener.close()


@dataclass
class Sse:
    """One open stream, event by event."""

    response: httpx.Response
    last_id: str | None = None
    _lines: Any = field(default=None)

    async def next(self, *, timeout_s: float = 30.0) -> tuple[str, Any]:
        """Name and data of the next event; comments and empty blocks are passed over. StopAsyncIteration at the end."""
        self._lines = self._lines or self.response.aiter_lines()
        name, data = "message", ""
        async with asyncio.timeout(timeout_s):
            while True:
                line = await anext(self._lines)
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data = line[6:]
                elif line.startswith("id: "):
                    self.last_id = line[4:]
                elif not line and data:
                    return name, json.loads(data)

    async def titles(self, count: int) -> list[str]:
        """Titles of the next `count` items."""
        return [(await self.next())[1]["title"] for _ in range(count)]


@contextlib.asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient, *, ticket: str, last_event_id: str | None = None, headers: dict[str, str] | None = None
) -> AsyncIterator[Sse]:
    """Connected, and past `unread`."""
    params = {"ticket": ticket} | ({"last_event_id": last_event_id} if last_event_id else {})
    async with client.stream("GET", "/v1/inbox/stream", params=params, headers=headers or {}) as response:
        assert response.status_code == 200, await response.aread()
        stream = Sse(response)
        name, _ = await stream.next()
        assert name == "unread"
        yield stream
