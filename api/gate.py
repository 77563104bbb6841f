"""Middleware in front of FastAPI's routes: so many requests may be under way, and so long does a caller wait for one.

Every route asks the database, and one that stands still says nothing by itself. So the bounds are held here, once for all
routes, and not at each statement. Whoever has no connection when the time is over gets none any more (see
`infra.postgres.deadline`); what has one is left to its own end, as in `infra.postgres.patience.within`, and is counted
until then. The raw accept routes have bounds of their own.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from domain.errors import Overloaded, TongdaError, Unavailable
from infra.postgres.deadline import deadline

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bound:
    """For the paths that `path` matches."""

    path: re.Pattern[str]
    most: int
    """Requests under way in one process: more are refused at once."""
    limit_s: float
    """Until an answer begins. A live stream has begun when its head is sent."""


BOUNDS: tuple[Bound, ...] = (
    Bound(re.compile(r"/v1/providers/[^/]+/test"), 8, 45.0),  # asks a provider, for up to 20 s, and few at a time
    Bound(re.compile(r"/v1/notifications/retry"), 32, 30.0),  # stores a thousand, one call at a time
    Bound(re.compile(r"/v1/otp(/.*)?"), 256, 8.0),
    Bound(re.compile(r"/v1/receipts/.*"), 256, 8.0),
    Bound(re.compile(r"/v1/.*"), 256, 8.0),
)
"""The first that fits holds: a flood of lists takes no place from one-time codes, and none from receipts."""


class Gate:
    """What it refuses never reached a route; what it gives up on may still be done."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way: Counter[re.Pattern[str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bound = _bound_of(scope)
        if bound is None:
            await self._app(scope, receive, send)
        elif self._under_way[bound.path] >= bound.most:
            await _refuse(send, Overloaded())
        else:
            await self._within(bound, scope, receive, _Answer(send))

    async def _within(self, bound: Bound, scope: Scope, receive: Receive, answer: _Answer) -> None:
        self._under_way[bound.path] += 1
        with deadline(bound.limit_s) as until:
            work = asyncio.ensure_future(self._app(scope, receive, answer.send))
        place = _Place(self._under_way, bound.path)
        work.add_done_callback(place.leave)
        answer.begun.add_done_callback(place.leave)
        answer.begun.add_done_callback(lambda _: until.lift())
        try:
            await asyncio.wait({work, answer.begun}, timeout=bound.limit_s, return_when=asyncio.FIRST_COMPLETED)
            if answer.begun.done() or work.done():
                await work
                return
        except asyncio.CancelledError:
            work.cancel()
            raise
        answer.given_up = True
        work.add_done_callback(_unheard)
        log.warning("request.late", route=getattr(scope.get("route"), "path", "none"))
        await _refuse(answer.real_send, Unavailable("There was no answer in time; it may still be done. Ask again."))


class _Answer:
    """Passes an answer on until nobody waits for it any more."""

    def __init__(self, send: Send) -> None:
        self.real_send = send
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.given_up = False

    async def send(self, message: Message) -> None:
        if self.given_up:
            return
        if not self.begun.done():
            self.begun.set_result(None)
        await self.real_send(message)


class _Place:
    """Is left once: when the answer begins, or when there will be none."""

    def __init__(self, under_way: Counter[re.Pattern[str]], path: re.Pattern[str]) -> None:
        self._under_way = under_way
        self._path = path
        self._left = False

    def leave(self, _: asyncio.Future[None]) -> None:
        if not self._left:
            self._left = True
            self._under_way[self._path] -= 1


def _bound_of(scope: Scope) -> Bound | None:
    if scope["type"] != "http":
        return None
    return next((bound for bound in BOUNDS if bound.path.fullmatch(scope["path"])), None)


async def _refuse(send: Send, error: TongdaError) -> None:
    status, headers, body = problem(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _unheard(task: asyncio.Future[None]) -> None:
    """Its error is nobody's any more, but not a defect's: what is wrong with a route is logged all the same."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("request.late_failed", code=type(error).__name__)
