"""The HTTP side: hooks, the record as JSON, health; the pages join in `pages`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from sandbox import contents, sink
from sandbox.hook import MAX_BODY_BYTES, Hook
from sandbox.record import Item, Record
from sandbox.settings import Settings

DEFAULT_LIMIT = 100


class RecordRoutes:
    """`/messages` and `/stats`: what tests compare the service's own story with."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/messages", self.messages),
            web.delete("/messages", self.clear),
            web.get("/messages/{id}", self.message),
            web.get("/stats", self.stats),
        ]

    async def messages(self, request: web.Request) -> web.Response:
        items, count = found(self._record, request)
        return _json({"items": [item.brief() for item in items], "count": count})

    async def message(self, request: web.Request) -> web.Response:
        item = self._record.get(request.match_info["id"])
        if item is None:
            return _json({"error": "no such message is kept"}, status=404)
        return _json({**item.brief(), **contents.opened(item)})

    async def clear(self, _request: web.Request) -> web.Response:
        self._record.clear()
        return web.Response(status=204)

    async def stats(self, _request: web.Request) -> web.Response:
        return _json(self._record.stats())


def found(record: Record, request: web.Request) -> tuple[list[Item], int]:
    """The items that the query string asks for (recipient, delivery, channel, q, limit). Raises HTTPBadRequest."""
    query = request.query
    limit = query.get("limit") or str(DEFAULT_LIMIT)
    if not (limit.isascii() and limit.isdigit()):
        raise web.HTTPBadRequest(text="limit is not a number")
    return record.find(
        recipient=query.get("recipient") or None,
        delivery=query.get("delivery") or None,
        channel=query.get("channel") or None,
        query=query.get("q") or None,
        limit=int(limit),
    )


def application(
    settings: Settings, *, record: Record, tally: sink.Tally, smtp_listens: Callable[[], bool]
) -> web.Application:
    """The aiohttp application."""

    async def healthz(_request: web.Request) -> web.Response:
        smtp = smtp_listens()
        return _json({"smtp": smtp, "http": True}, status=200 if smtp else 503)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    hook = Hook(settings, record=record)
    app.add_routes([web.get("/healthz", healthz), web.post("/hook/{name}", hook.receive)])

    async def stop_reporting(_: web.Application) -> None:
        await hook.reporter.close()

    app.on_cleanup.append(stop_reporting)
    app.add_routes(RecordRoutes(record).routes())
    app.add_routes(sink.routes(tally))
    return app


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", status=status)
