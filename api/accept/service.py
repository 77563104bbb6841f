"""From a decoded request to its COMMIT: template and recipient checked, lane and life decided, the row built."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET

from api.accept import decode
from api.accept.collecting import Collector, asked_of, collecting_errors, collects
from api.accept.recipients import Recipients, User
from api.accept.request import NotificationRequest
from api.accept.routing import CategoryRoutes
from api.accept.rows import Sender, follow, key_of, pinned, row_of, takes_a_route
from api.accept.rules import broken_rules
from api.accept.writer import CommitWriter, judge
from domain.clock import Clock
from domain.errors import Invalid, Overloaded, TongdaError, Unavailable
from domain.lanes import Lane
from domain.states import Status
from infra.clock import SYSTEM_CLOCK
from infra.postgres.accepting import AcceptRepository, Key, Row
from infra.postgres.collecting import Asked
from infra.postgres.errors import AWAY
from infra.postgres.patience import ANSWERS_WITHIN_S, within
from infra.rendering.catalog import TemplateCatalog

ROUTE_ONE = "POST /v1/notifications"
ROUTE_BATCH = "POST /v1/notifications/batch"
MOST_BATCHES = 2
"""Batch requests that commit at a time; they have connections of their own and never sit in front of an OTP."""
MOST_BATCHES_WAITING = 64
ITEMS_A_TURN = 50
"""Of a batch, half a millisecond of this process, before others have their turn."""
BATCH_WITHIN_S = 20.0
"""For its turn and its COMMIT together."""


_BODIES = tuple(
    b'{"id":"%%s","status":"%s","lane":"%s"}' % (Status.ACCEPTED.encode(), lane.label.encode()) for lane in Lane
)
"""Of the 202, by lane."""


class Accepted(NamedTuple):
    """The answer to one request."""

    id: str
    lane: Lane
    body: bytes
    replay: bool = False

    @classmethod
    def of(cls, row: Row) -> Accepted:
        """The first answer, for when it is stored."""
        name, lane = str(row[0]), Lane(row[3])
        return cls(name, lane, _BODIES[lane] % name.encode())

    @classmethod
    def replayed(cls, answer: bytes) -> Accepted:
        """The first answer, as it is stored under the key."""
        first = msgspec.json.decode(answer)
        return cls(first["id"], Lane.of(first["lane"]), answer, replay=True)


Told = Callable[[Accepted | TongdaError], None]
"""Takes the answer to one request, once. Must not raise."""


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to a batch; `lanes` counts what was stored."""

    body: bytes
    lanes: dict[Lane, int]
    replay: bool = False


class AcceptService:
    """One a process. `committed` is told the lanes that have something due after each COMMIT."""

    def __init__(
        self,
        repository: AcceptRepository,
        *,
        recipients: Recipients,
        catalog: TemplateCatalog,
        routes: CategoryRoutes,
        poke: Callable[[Lane], None],
        collector: Collector,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self._repository = repository
        self._recipients = recipients
        self._catalog = catalog
        self.routes = routes
        self._poke = poke
        self._collector = collector
        self._urgent = CommitWriter(repository, committed=self._committed, name="high")
        self._normal = CommitWriter(repository, committed=self._committed, name="normal")
        self._batches = asyncio.Semaphore(MOST_BATCHES)
        self._batches_waiting = 0

    async def stop(self) -> None:
        """Commit what was taken; nothing new is taken any more."""
        await asyncio.gather(self._urgent.stop(), self._normal.stop())

    @property
    def spent(self) -> Exception | None:
        """Why the database has just had no room for what was to be accepted; None: it had."""
        return self._urgent.spent or self._normal.spent

    async def accept(self, raw: bytes, *, sender: Sender, key: str | None) -> Accepted:
        """One notification. Returns only after the COMMIT. Raises the errors of `domain.errors`."""
        request = decode.notification(raw)
        user = _check(request, sender, now=self.clock.now())
        if user is not None:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await self._recipients.check(user)
        row = await self._prepared(request, sender=sender)
        if isinstance(row, TongdaError):
            raise row
        if isinstance(row, Asked):
            return await self._collect(row, sender=sender, key=key, raw=raw)
        return await self.put(row, sender=sender, route=ROUTE_ONE, key=key, raw=raw)

    async def _collect(self, asked: Asked, *, sender: Sender, key: str | None, raw: bytes) -> Accepted:
        """One that may be collected, or repeat another, in a transaction of its own."""
        accepted = Accepted.of(asked.row)
        kept = None if key is None else key_of(sender, ROUTE_ONE, key=key, raw=raw, answer=accepted.body)
        first = await self._collector.store([asked], key=kept)
        if first is not None:
            return Accepted.replayed(first)
        self._committed([asked.row])
        return accepted

    async def put(self, row: Row, *, sender: Sender, route: str, key: str | None, raw: bytes) -> Accepted:
        """One that is checked. Returns only after the COMMIT, and raises what can go wrong with that."""
        answered: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        accepted = Accepted.of(row)
        kept = None if key is None else key_of(sender, route, key=key, raw=raw, answer=accepted.body)
        self._put(row, accepted=accepted, key=kept, told=partial(_settle, answered))
        return await answered

    def accept_at_once(self, raw: bytes, *, sender: Sender, key: str | None, told: Told) -> bool:
        """The same without a task that waits, where everything that has to be known is remembered; otherwise False, and
        nothing has happened. `told` is called once, after the COMMIT. Raises what is wrong with the request."""
        request = decode.notification(raw)
        if collects(request):
            return False
        user = _check(request, sender, now=self.clock.now())
        if user is not None and not self._recipients.is_known(user):
            return False
        template = routes = None
        if request.template is not UNSET:
            template = self._catalog.published_cached(sender.tenant, request.template)
            if template is None:
                return False
        version = pinned(request, template)
        if takes_a_route(request):
            routes = self.routes.cached(sender.tenant)
            if routes is None:
                return False
            follow(request, routes)
        row = row_of(request, sender=sender, version=version)
        accepted = Accepted.of(row)
        kept = None if key is None else key_of(sender, ROUTE_ONE, key=key, raw=raw, answer=accepted.body)
        self._put(row, accepted=accepted, key=kept, told=told)
        return True

    def _put(self, row: Row, *, accepted: Accepted, key: Key | None, told: Told) -> None:
        def stored(what: bytes | TongdaError | None) -> None:
            if what is None:
                told(accepted)
            else:
                told(Accepted.replayed(what) if isinstance(what, bytes) else what)

        (self._urgent if accepted.lane is Lane.HIGH else self._normal).put(row, key=key, told=stored)

    def due(self, lane: Lane) -> None:
        """Something of this lane that did not come through here is due: group it."""
        self._poke(lane)

    async def check_recipient(self, user: User) -> None:
        """Raises RecipientUnknown, RecipientGone."""
        await self._recipients.check(user)

    async def refused_recipients(self, users: Sequence[User]) -> Mapping[User, TongdaError]:
        """Those of `users` who cannot be written to, and why."""
        return await self._recipients.check_all(users)

    async def accept_batch(
        self, raw: bytes, *, sender: Sender, key: str | None, problem: Callable[[TongdaError], dict[str, Any]]
    ) -> BatchAnswer:
        """Up to 1,000 notifications in one transaction; a bad one fails alone."""
        prepared = await self._prepare_batch(decode.batch(raw), sender=sender)
        asked = [item for item in prepared if isinstance(item, Asked)]
        plain = [item for item in prepared if isinstance(item, tuple)]
        rows = [*plain, *(item.row for item in asked)]
        items = [
            {"error": problem(item)} if isinstance(item, TongdaError) else {"id": str(_id(item)), "status": "accepted"}
            for item in prepared
        ]
        answer = {"items": items, "accepted": len(rows), "rejected": len(prepared) - len(rows)}
        body = msgspec.json.encode(answer)
        kept = key_of(sender, ROUTE_BATCH, key=key, raw=raw, answer=body) if key is not None else None
        lanes = Counter(Lane(row[3]) for row in rows)
        if not rows and kept is None:
            return BatchAnswer(body, lanes)
        if asked:
            async with self._batches:
                replay = await self._collector.store(asked, key=kept, plain=plain)
            if replay is not None:
                return BatchAnswer(replay, {}, replay=True)
            self._committed(rows)
            return BatchAnswer(body, lanes)
        if await self._stored_in_time(rows, key=kept):
            self._committed(rows)
            return BatchAnswer(body, lanes)
        assert kept is not None
        [found] = await within(ANSWERS_WITHIN_S, self._repository.kept([kept]))
        first = judge(kept, found)
        if isinstance(first, TongdaError):
            raise first
        return BatchAnswer(first, {}, replay=True)

    async def _stored_in_time(self, rows: Sequence[Row], *, key: Key | None) -> bool:
        """False when the key was there before. Raises Overloaded, Unavailable."""
        if self._batches_waiting >= MOST_BATCHES_WAITING:
            raise Overloaded
        try:
            return await within(BATCH_WITHIN_S, self._store_batch(rows, key=key))
        except AWAY as error:
            message = "The database did not take the batch in time; send it again with its Idempotency-Key."
            raise Unavailable(message) from error

    async def _store_batch(self, rows: Sequence[Row], *, key: Key | None) -> bool:
        self._batches_waiting += 1
        try:
            async with self._batches:
                return await self._repository.store_batch(rows, key=key)
        finally:
            self._batches_waiting -= 1

    async def _prepare_batch(self, items: Sequence[msgspec.Raw], *, sender: Sender) -> list[Row | Asked | TongdaError]:
        """A row or the reason against it for each item, in order."""
        requests: list[NotificationRequest | TongdaError] = []
        users: list[User | None] = []
        now = self.clock.now()
        for turn, item in enumerate(items):
            await _let_others(turn)
            request, user = _decoded(item, sender, now=now)
            requests.append(request)
            users.append(user)
        named = [user for user in users if user is not None]
        refused = await within(ANSWERS_WITHIN_S, self._recipients.check_all(named))
        prepared: list[Row | Asked | TongdaError] = []
        for turn, (request, user) in enumerate(zip(requests, users, strict=True)):
            await _let_others(turn)
            if isinstance(request, TongdaError):
                prepared.append(request)
            elif user is not None and user in refused:
                prepared.append(refused[user])
            else:
                prepared.append(await self._prepared(request, sender=sender))
        return prepared

    async def _prepared(self, request: NotificationRequest, *, sender: Sender) -> Row | Asked | TongdaError:
        try:
            version = await self.pinned_version(request, sender=sender)
        except Invalid as error:
            return error
        await self.follow_route(request, sender=sender)
        row = row_of(request, sender=sender, version=version)
        return asked_of(request, row) if collects(request) else row

    async def follow_route(self, request: NotificationRequest, *, sender: Sender) -> None:
        """Pin the route of its category, where it takes one."""
        if takes_a_route(request):
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                follow(request, self.routes.cached(sender.tenant) or await self.routes.of(sender.tenant))

    async def pinned_version(
        self, request: NotificationRequest, *, sender: Sender, version: int | None = None
    ) -> int | None:
        """The published version or the one given, pinned, its variables checked. Raises Invalid."""
        name = request.template
        if name is UNSET:
            return None
        if version is not None:
            return pinned(request, await self._catalog.version(sender.tenant, name, version))
        template = self._catalog.published_cached(sender.tenant, name)
        if template is None:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                template = await self._catalog.published(sender.tenant, name)
        if template is None:
            raise Invalid.field("/template", "unknown", "There is no published template of this name.")
        return pinned(request, template)

    def _committed(self, rows: Iterable[Row]) -> None:
        """What is due now is grouped at once; what is due later is found by the sweep."""
        now = self.clock.now()
        for lane in {row[3] for row in rows if row[16] is None or row[16] <= now}:
            self._poke(Lane(lane))


async def _let_others(turn: int) -> None:
    """Between the items of a batch: other requests, an OTP among them, go on meanwhile."""
    if turn % ITEMS_A_TURN == ITEMS_A_TURN - 1:
        await asyncio.sleep(0)


def _id(item: Row | Asked) -> UUID:
    return item.id if isinstance(item, Asked) else item[0]


def _settle(answered: asyncio.Future[Accepted], what: Accepted | TongdaError) -> None:
    if answered.done():  # whoever asked has gone
        return
    if isinstance(what, TongdaError):
        answered.set_exception(what)
    else:
        answered.set_result(what)


def _check(request: NotificationRequest, sender: Sender, *, now: datetime) -> User | None:
    """The user to look up. Raises Invalid."""
    errors = broken_rules(request, now=now)
    if collects(request):
        errors += collecting_errors(request, now=now)
    if errors:
        raise Invalid(errors)
    return None if request.to.user is UNSET else (sender.tenant, request.to.user)


def _decoded(item: msgspec.Raw, sender: Sender, *, now: datetime) -> tuple[NotificationRequest | TongdaError, User | None]:
    try:
        request = decode.notification(item)
        return request, _check(request, sender, now=now)
    except TongdaError as error:
        return error, None
