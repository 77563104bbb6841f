"""The webhook target: `POST /hook/{name}`, checked as strictly as a careful receiver would."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from dataclasses import replace
from typing import Any

from aiohttp import web

from sandbox import signature
from sandbox.behaviours import Behaviour, How, Memory, of_hook, phrase
from sandbox.record import Record, Seen, Signature, Verdict
from sandbox.reporting import Reporter, ordered
from sandbox.settings import Settings

MAX_BODY_BYTES = 1024 * 1024

_GARBAGE = "<!doctype html><title>It works!</title><h1>It works!</h1>"


class Hook:
    """One target for all names."""

    def __init__(self, settings: Settings, *, record: Record) -> None:
        self._settings = settings
        self._record = record
        self._memory = Memory()
        self._key = signature.secret_bytes(settings.webhook_secret) if settings.webhook_secret else None
        self.reporter = Reporter(self._key)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Judge one request, play the behaviour of its name, and record what happened."""
        name = request.match_info["name"]
        seen = Seen(
            channel="webhook",
            recipient=name,
            taken=True,
            verdict=Verdict.ACCEPTED,
            delivery=request.headers.get("webhook-id"),
            signature=Signature.UNCHECKED,
            headers=tuple(request.headers.items()),
        )
        behaviour = of_hook(name)
        if behaviour is not None and behaviour.how is How.RESET:
            self._record.add(_asked(behaviour, seen))
            return _reset(request)
        try:
            seen = replace(seen, raw=await request.read())
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(seen, status=413, why=f"body of more than {MAX_BODY_BYTES} bytes")
        seen, refusal = self._judge(request, seen)
        if refusal is not None:
            return self._refuse(seen, status=refusal[0], why=refusal[1])
        order, reply_to = ordered(name), request.headers.get("webhook-reply-to")
        if order is not None and reply_to is not None:
            await self.reporter.ask(order, delivery=seen.delivery or "", url=reply_to)
            if order.plan.cut:
                self._record.add(replace(seen, answer=None))
                return _close_silently(request)
        if behaviour is None or not self._memory.applies(behaviour, message_id=seen.delivery or "", recipient=name):
            item = self._record.add(replace(seen, answer="HTTP 200 OK"))
            return web.json_response({"ok": True, "id": item.id})
        return await self._play(behaviour, seen=seen, request=request)

    def _judge(self, request: web.Request, seen: Seen) -> tuple[Seen, tuple[int, str] | None]:
        """The attempt with title and signature filled in, and (status, why) when a rule refuses it."""
        if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
            return seen, (415, "content-type is not application/json in UTF-8")
        if self._key is not None:
            headers = {name.lower(): value for name, value in request.headers.items()}
            try:
                signature.verify(headers, seen.raw, key=self._key, now=time.time())
            except signature.BadSignature as bad:
                return replace(seen, signature=Signature.INVALID), (401, str(bad))
            seen = replace(seen, signature=Signature.VALID)
        for name in ("webhook-id", "webhook-timestamp"):
            if len(request.headers.getall(name, [])) != 1:
                return seen, (400, f"header {name} must be there once")
        try:
            body = json.loads(seen.raw.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return seen, (400, "body is not JSON in UTF-8")
        if not isinstance(body, dict):
            return seen, (400, "body is not a JSON object")
        return replace(seen, subject=_title(body)), None

    def _refuse(self, seen: Seen, *, status: int, why: str) -> web.Response:
        answer = f"HTTP {status} {phrase(status)}"
        self._record.add(replace(seen, taken=False, verdict=Verdict.REFUSED, why=why, answer=answer))
        return web.json_response({"ok": False, "why": why}, status=status)

    async def _play(self, behaviour: Behaviour, *, seen: Seen, request: web.Request) -> web.StreamResponse:
        played = _asked(behaviour, seen)
        if behaviour.how is How.SLOW:
            try:
                await asyncio.sleep(self._settings.slow_s)
            except asyncio.CancelledError:
                self._record.add(replace(played, taken=False, verdict=Verdict.ABANDONED, answer=None))
                raise
        self._record.add(played)
        if behaviour.how is How.HANG:
            await asyncio.sleep(self._settings.hang_s)
        if behaviour.how is How.DROP_RESET:
            return _reset(request)
        if behaviour.how in (How.HANG, How.DROP):
            return _close_silently(request)
        if behaviour.html:
            return web.Response(text=_GARBAGE, content_type="text/html", status=behaviour.http)
        body = {"ok": behaviour.taken, "why": played.why}
        return web.json_response(body, status=behaviour.http, reason=phrase(behaviour.http), headers=behaviour.http_headers)


def _asked(behaviour: Behaviour, seen: Seen) -> Seen:
    """The attempt as the behaviour makes it end."""
    silent = behaviour.how in (How.HANG, How.DROP, How.RESET, How.DROP_RESET)
    answer = f"HTTP {behaviour.http} {phrase(behaviour.http)}"
    return replace(
        seen,
        taken=behaviour.taken,
        verdict=behaviour.verdict,
        behaviour=behaviour.word,
        answer=None if silent else answer,
        why=None if behaviour.verdict is Verdict.ACCEPTED else behaviour.en if silent else answer,
    )


def _reset(request: web.Request) -> web.Response:
    """Cut the connection with a TCP RST."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()  # goes nowhere: aiohttp wants one


def _close_silently(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()  # goes nowhere: aiohttp wants one


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _title(body: dict[str, Any]) -> str:
    """What a person would call the message: the first of the usual fields."""
    data = body.get("data")
    for name in ("title", "subject", "type"):
        for source in (body, data if isinstance(data, dict) else {}):
            if isinstance(source.get(name), str):
                return str(source[name])[:300]
    return ""
