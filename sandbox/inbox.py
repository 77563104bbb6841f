"""The live-inbox page and the send form: the browser's side of the API, with the key kept on this side."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from aiohttp import web

from sandbox.pages import Shell
from sandbox.tongda import ApiProblem, Tongda

DEMO_USER = "u-demo"
MARKS = frozenset({"read", "archive"})


class InboxPage:
    """`/inbox` and what its script asks for; `/send` for both pages.

    Everything that acts takes JSON: a foreign site cannot make a browser post that here without asking first (CORS), so
    it cannot spend the key.
    """

    def __init__(self, tongda: Tongda, *, shell: Shell) -> None:
        self._tongda = tongda
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/inbox", self.page),
            web.get("/inbox/items", self.items),
            web.post("/inbox/stream", self.stream),
            web.post("/inbox/mark", self.mark),
            web.post("/send", self.send),
            web.get("/send/{id}", self.sent),
        ]

    async def page(self, request: web.Request) -> web.Response:
        user = request.query.get("user", "").strip() or DEMO_USER
        return self._shell.page("inbox.html", request, user=user)

    async def items(self, request: web.Request) -> web.Response:
        return await _answer(self._tongda.inbox(request.query.get("user", DEMO_USER)))

    async def stream(self, request: web.Request) -> web.Response:
        """`{"user"}` -> `{"url"}`: where to open the event stream, once."""
        asked = await _asked(request, "user")
        return await _answer(self._stream(asked["user"]))

    async def _stream(self, user: str) -> dict[str, Any]:
        return {"url": await self._tongda.stream_url(user)}

    async def mark(self, request: web.Request) -> web.Response:
        """`{"user", "item", "mark": "read" | "archive"}`."""
        asked = await _asked(request, "user", "item", "mark")
        if asked["mark"] not in MARKS:
            raise web.HTTPBadRequest(text="mark is read or archive")
        return await _answer(self._tongda.mark(asked["user"], item=asked["item"], mark=asked["mark"]))

    async def send(self, request: web.Request) -> web.Response:
        """`{"channel", "recipient", "title", "text"}` -> what the API answers."""
        return await _answer(
            self._tongda.send(_notification(await _asked(request, "channel", "recipient", "title", "text")))
        )

    async def sent(self, request: web.Request) -> web.Response:
        """How the notification stands: id, status, final, reason, providers' codes, and where its workflow is shown."""
        return await _answer(self._standing(request.match_info["id"]))

    async def _standing(self, notification_id: str) -> dict[str, Any]:
        notification = await self._tongda.notification(notification_id)
        standing = {name: notification.get(name) for name in ("id", "status", "final", "reason")}
        deliveries = notification.get("deliveries")
        if isinstance(deliveries, list):
            standing["codes"] = [one.get("code") for one in deliveries if isinstance(one, dict) and one.get("code")]
        workflows = notification.get("workflows")
        if isinstance(workflows, list) and workflows and isinstance(workflows[-1], dict):
            standing["workflow"] = workflows[-1].get("url")
        return standing


def _notification(asked: dict[str, str]) -> dict[str, Any]:
    """The form as the API wants it."""
    channel, recipient = asked["channel"], asked["recipient"].strip()
    to: dict[str, str] = {"channel": channel, "address": recipient}
    if channel == "email":
        to = {"email": recipient}
    elif channel == "inapp":
        to = {"user": recipient}
    return {"to": to, "channels": [channel], "content": {"title": asked["title"], "text": asked["text"]}}


async def _asked(request: web.Request, *names: str) -> dict[str, str]:
    """The text fields of a JSON body. Raises HTTPUnsupportedMediaType or HTTPBadRequest."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    try:
        body = await request.json()
    except ValueError as error:
        raise web.HTTPBadRequest(text="body is not JSON") from error
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in names):
        raise web.HTTPBadRequest(text=f"wanted as text: {', '.join(names)}")
    return {name: body[name] for name in names}


async def _answer(call: Awaitable[dict[str, Any]]) -> web.Response:
    """What the API said, as it is, or its problem as `{"problem": text}`."""
    try:
        return web.json_response(await call)
    except ApiProblem as problem:
        return web.json_response({"problem": str(problem)}, status=problem.status)
