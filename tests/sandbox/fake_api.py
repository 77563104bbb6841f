"""Just enough of Tongda's API for the sandbox's pages: one user's inbox with tickets and a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

KEY = "tk_test_key"


class FakeApi:
    """Keeps the items, checks the key, and gives each ticket once."""

    def __init__(self) -> None:
        self.url = ""
        self.items: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.tickets: set[str] = set()
        self.resumed: list[str | None] = []
        self.streams: list[asyncio.Queue[tuple[str, Any] | None]] = []

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/notifications", self.create),
                web.get("/v1/notifications/{id}", self.read),
                web.post("/v1/users/{user}/tokens", self.token),
                web.post("/v1/inbox/tickets", self.ticket),
                web.get("/v1/inbox/stream", self.stream),
                web.get("/v1/users/{user}/inbox", self.inbox),
                web.post("/v1/users/{user}/inbox/{item}/{mark}", self.mark),
            ]
        )
        return app

    def _check(self, request: web.Request, bearer: str) -> None:
        if request.headers.get("Authorization") != f"Bearer {bearer}":
            raise web.HTTPUnauthorized(text=json.dumps({"title": "Not authenticated"}))

    @property
    def unread(self) -> int:
        return sum(item["read_at"] is None and item["archived_at"] is None for item in self.items)

    async def create(self, request: web.Request) -> web.Response:
        self._check(request, KEY)
        body = await request.json()
        self.sent.append(body)
        if body["content"]["title"] == "refuse":
            problem = {"title": "Bad request", "errors": [{"pointer": "/content/title", "detail": "not liked"}]}
            return web.json_response(problem, status=422)
        if "user" in body["to"]:
            await self.deliver(body["content"]["title"], body["content"]["text"])
        return web.json_response({"id": str(uuid4()), "status": "accepted", "lane": "medium"}, status=202)

    async def read(self, request: web.Request) -> web.Response:
        self._check(request, KEY)
        workflows = [{"id": f"w-{n}", "url": f"http://ui.test/{n}"} for n in (1, 2)]
        shown = {"id": request.match_info["id"], "status": "delivered", "final": True, "deliveries": []}
        return web.json_response({**shown, "workflows": workflows})

    async def deliver(self, title: str, text: str, *, url: str | None = None) -> str:
        """An item arrives, at open streams too."""
        item = {
            "id": uuid4().hex,
            "title": title,
            "text": text,
            "url": url,
            "created_at": datetime.now(UTC).isoformat(),
            "read_at": None,
            "archived_at": None,
        }
        self.items.insert(0, item)
        for stream in self.streams:
            stream.put_nowait(("item", item))
        return str(item["id"])

    async def token(self, request: web.Request) -> web.Response:
        self._check(request, KEY)
        if request.match_info["user"] == "u-nobody":
            return web.json_response({"title": "No such object", "detail": "There is no such user."}, status=404)
        return web.json_response({"token": "user-token"})

    async def ticket(self, request: web.Request) -> web.Response:
        self._check(request, "user-token")
        ticket = uuid4().hex
        self.tickets.add(ticket)
        return web.json_response({"ticket": ticket})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query["ticket"]
        if ticket not in self.tickets:
            raise web.HTTPUnauthorized
        self.tickets.remove(ticket)
        self.resumed.append(request.query.get("last_event_id"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Access-Control-Allow-Origin": "*"})
        await response.prepare(request)
        queue: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue()
        self.streams.append(queue)
        await response.write(f"event: unread\ndata: {json.dumps({'unread': self.unread})}\n\n".encode())
        with suppress(ConnectionError):
            while (event := await queue.get()) is not None:
                name, data = event
                await response.write(f"id: {uuid4().hex}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode())
        return response

    def resync(self) -> None:
        """Tell open streams that the list has to be read again."""
        for stream in self.streams:
            stream.put_nowait(("resync", {}))

    def cut_streams(self) -> None:
        """End every open stream: what a restart of the API does to a browser."""
        for stream in self.streams:
            stream.put_nowait(None)
        self.streams.clear()

    async def inbox(self, request: web.Request) -> web.Response:
        self._check(request, KEY)
        return web.json_response({"items": self.items, "next_cursor": None, "unread": self.unread})

    async def mark(self, request: web.Request) -> web.Response:
        self._check(request, KEY)
        await self.change(request.match_info["item"], request.match_info["mark"])
        return web.json_response({})

    async def change(self, item_id: str, mark: str) -> None:
        """`read` or `archive`, told to open streams."""
        field = {"read": "read_at", "archive": "archived_at"}[mark]
        for item in self.items:
            if item["id"] == item_id:
                item[field] = datetime.now(UTC).isoformat()
                for stream in self.streams:
                    stream.put_nowait(("item", item))


@asynccontextmanager
async def fake_api() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        api.cut_streams()
        await runner.cleanup()
