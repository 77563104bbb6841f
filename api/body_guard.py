"""Middleware in front of FastAPI's JSON routes: the body is read, limited and checked before anybody decodes it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body import MOST_BYTES, check_headers, check_json, decoded_strictly, too_large
from api.problems import problem
from api.repeated_names import check_names
from domain.errors import Rejected

GUARDED = "/v1/"
EXEMPT = ("/v1/receipts/",)
"""Providers send what they send; each adapter checks its own."""
MOST_DRAINED = 8 * MOST_BYTES
"""Of a refused body; then the connection is closed."""


class BodyGuard:
    """The raw accept routes in front of it call `check_json` themselves, and their own decoder says what is no JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"} or not _guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            raw = await read_body(scope, receive)
            if raw:
                check_json(raw)
                check_names(raw, decoded_strictly(raw))
        except Rejected as error:
            status, headers, body = problem(error)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        if raw is not None:
            await self._app(scope, _replayed(raw, receive), send)


async def read_body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, b"" where there is none; None when the client went away. Raises TooLarge, UnsupportedMedia.

    A request without a body needs no content type. What is refused is still read, up to `MOST_DRAINED`: a client that is
    cut off while it writes never sees why.
    """
    chunks: list[bytes] = []
    size = 0
    refused: Rejected | None = None
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        if chunk and refused is None:
            refused = _refused(scope, size=size, more=len(chunk))
            chunks.append(chunk)
        size += len(chunk)
        more = message.get("more_body", False)
        if refused is not None:
            chunks.clear()
            if not more or size > MOST_DRAINED:
                raise refused
        elif not more:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _refused(scope: Scope, *, size: int, more: int) -> Rejected | None:
    """Why a body whose next bytes come is not taken; None while it is."""
    if size == 0:
        try:
            check_headers(scope["headers"])
        except Rejected as error:
            return error
    return too_large() if size + more > MOST_BYTES else None


def _guarded(path: str) -> bool:
    return path.startswith(GUARDED) and not path.startswith(EXEMPT)


def _replayed(raw: bytes, receive: Receive) -> Receive:
    """The body once, then whatever the server says (that the client went away)."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": raw, "more_body": False}

    return replay
