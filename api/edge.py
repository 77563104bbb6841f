"""The outermost middleware: a request id, figures, and an answer whatever happens inside."""

from __future__ import annotations

import re
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from domain.ids import uuid7
from infra.postgres.errors import is_away, is_held
from infra.telemetry.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger()

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ENDLESS = "text/event-stream"


class Edge:
    """Nothing raised inside gets past it: the server would log its text, and a text may quote an address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id.decode()):
            try:
                await self._app(scope, receive, exchange.send)
            except Exception as error:
                await exchange.failed(error)
            finally:
                exchange.count()


class _Exchange:
    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started_s = time.perf_counter()
        self._status = 0
        self._streams = False
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        self.request_id: bytes = given if _REQUEST_ID.fullmatch(given) else str(uuid7()).encode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            self._streams = any(n == b"content-type" and v.startswith(_ENDLESS.encode()) for n, v in headers)
            headers.append((b"x-request-id", self.request_id))
            message = {**message, "headers": headers}
        await self._send(message)

    async def failed(self, error: Exception) -> None:
        """The answer, or the end of the connection where an answer had begun."""
        if is_away(error) or is_held(error):  # its place says nothing, and in an outage there is one a request
            log.warning("request.failed", route=self._route(), away=True, code=type(error).__name__)
        else:
            log.error("request.failed", route=self._route(), away=False, exc_info=error)
        if self._status:
            raise ConnectionAbortedError("the answer had begun") from None
        status, headers, body = problem(error)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def count(self) -> None:
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        HTTP_REQUESTS.labels(method, self._route(), str(self._status)).inc()
        if not self._streams:
            HTTP_SECONDS.labels(method, self._route()).observe(time.perf_counter() - self._started_s)

    def _route(self) -> str:
        """The template, never the path: paths hold ids."""
        return getattr(self._scope.get("route"), "path", "none")
