"""`POST /v1/notifications` and `/batch` as raw ASGI, in front of FastAPI: nothing between the socket and the decoder.

Everything else goes through to the application behind. Every answer is JSON or problem+json; nothing raised escapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from api.accept.batch import BatchService
from api.accept.rows import Sender, key_errors
from api.accept.service import Accepted, AcceptService
from api.body import check_json
from api.body_guard import read_body
from api.keyring import KeyRing
from api.problems import problem, problem_fields
from api.security import Permission, Principal, check
from domain.errors import Invalid, TongdaError
from domain.lanes import Lane
from infra.telemetry.metrics import ACCEPT_SECONDS, ACCEPTED, REJECTED, REPLAYED

log = structlog.get_logger()

ONE = "/v1/notifications"
BATCH = "/v1/notifications/batch"
UNAVAILABLE = 503
_JSON = (b"content-type", b"application/json")
_ACCEPTED = {lane: ACCEPTED.labels(lane.label) for lane in Lane}
_SECONDS = {lane: ACCEPT_SECONDS.labels(lane.label) for lane in Lane}

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers, body."""


@dataclass(frozen=True, slots=True)
class AcceptParts:
    """What the routes need."""

    keys: KeyRing
    service: AcceptService
    batches: BatchService


class ClientGone(Exception):
    """The client closed the connection before its request was complete: nobody waits for an answer."""


class AcceptRoutes:
    """ASGI application in front of `app`."""

    def __init__(self, app: ASGIApp, *, parts: AcceptParts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in {ONE, BATCH}:
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        except Exception as error:
            answer = _refused(error)
        status, headers, body = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        started_s = time.perf_counter()
        authorization = key = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"idempotency-key":
                key = value
        sender = _sender(await self._parts.keys.authenticate(authorization))
        if scope["query_string"]:
            raise Invalid.field("?", "unknown_parameter", "There are no query parameters here.")
        raw = await read_body(scope, receive)
        if raw is None:
            raise ClientGone
        check_json(raw)
        if scope["path"] == BATCH:
            return await _batch(self._parts.batches, raw, sender=sender, key=_key(key))
        answer = await self._parts.service.accept(raw, sender=sender, key=_key(key))
        return _one(answer, took_s=time.perf_counter() - started_s)

    def answer_at_once(
        self, raw: bytes, *, authorization: bytes | None, key: bytes | None, send: Callable[[Answer], None]
    ) -> bool:
        """`POST /v1/notifications` without a task for it, where nothing has to be asked of the database first; otherwise
        False, and nothing has happened. `send` is called once, after the COMMIT or with the problem. Raises nothing."""
        started_s = time.perf_counter()

        def told(what: Accepted | TongdaError) -> None:
            send(_refused(what) if isinstance(what, TongdaError) else _one(what, took_s=time.perf_counter() - started_s))

        try:
            principal = self._parts.keys.remembered(authorization)
            if principal is None:
                return False
            sender = _sender(principal)
            check_json(raw)
            return self._parts.service.accept_at_once(raw, sender=sender, key=_key(key), told=told)
        except Exception as error:
            send(_refused(error))
            return True


def _sender(principal: Principal) -> Sender:
    """Raises Forbidden."""
    check(principal, Permission.SEND)
    return Sender(principal.tenant, principal.app)


def _one(answer: Accepted, *, took_s: float) -> Answer:
    headers = _headers(answer.body, replay=answer.replay)
    headers.append((b"location", f"{ONE}/{answer.id}".encode()))
    if answer.replay:
        REPLAYED.inc()
        return 200, headers, answer.body
    _ACCEPTED[answer.lane].inc()
    _SECONDS[answer.lane].observe(took_s)
    return 202, headers, answer.body


async def _batch(batches: BatchService, raw: bytes, *, sender: Sender, key: str | None) -> Answer:
    answer = await batches.accept(raw, sender=sender, key=key, problem=problem_fields)
    if answer.replay:
        REPLAYED.inc()
        return 200, _headers(answer.body, replay=True), answer.body
    for lane, count in answer.lanes.items():
        _ACCEPTED[lane].inc(count)
    return 202, _headers(answer.body, replay=False), answer.body


def _refused(error: Exception) -> Answer:
    """The problem, counted by its code; what is a defect of ours is logged. A database that is away is told once for a
    whole group, where it was found out."""
    status, headers, body = problem(error)
    code = problem_fields(error)["code"]
    REJECTED.labels(code).inc()
    if status >= 500 and status != UNAVAILABLE:
        log.error("accept.failed", code=code, exc_info=error)
    return status, headers, body


def _headers(body: bytes, *, replay: bool) -> list[tuple[bytes, bytes]]:
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if replay:
        headers.append((b"idempotent-replay", b"true"))
    return headers


def _key(value: bytes | None) -> str | None:
    if value is None:
        return None
    key = value.decode("latin-1")
    errors = key_errors(key)
    if errors:
        raise Invalid(errors)
    return key
