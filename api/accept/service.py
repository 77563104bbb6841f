"""From a decoded request to its COMMIT: template and recipient checked, lane and life decided, the row built."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from api.accept import decode
from api.accept.recipients import Recipients, User
from api.accept.request import NotificationRequest
from api.accept.routing import CategoryRoutes
from api.accept.rules import broken_rules, direct_address, duration
from api.accept.writer import CommitWriter, judge
from domain.errors import FieldError, Invalid, Overloaded, TongdaError, Unavailable
from domain.ids import uuid7
from domain.lanes import POLICIES, Lane
from domain.states import Status, Strategy
from infra.postgres.accepting import AcceptRepository, Key, Row
from infra.postgres.errors import AWAY
from infra.rendering.catalog import TemplateCatalog

ROUTE_ONE = "POST /v1/notifications"
ROUTE_BATCH = "POST /v1/notifications/batch"
MOST_BATCHES = 2
"""Batch requests that commit at a time; they have connections of their own and never sit in front of an OTP."""
MOST_BATCHES_WAITING = 64


@dataclass(frozen=True, slots=True)
class Sender:
    """Who asks: from the API key."""

    tenant: str
    app: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to one request."""

    id: UUID
    lane: Lane
    body: bytes
    replay: bool = False


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
    ) -> None:
        self._repository = repository
        self._recipients = recipients
        self._catalog = catalog
        self.routes = routes
        self._poke = poke
        self._urgent = CommitWriter(repository, writers=1, committed=self._committed, name="high")
        self._normal = CommitWriter(repository, writers=2, committed=self._committed, name="normal")
        self._batches = asyncio.Semaphore(MOST_BATCHES)
        self._batches_waiting = 0

    async def stop(self) -> None:
        """Commit what was taken; nothing new is taken any more."""
        await asyncio.gather(self._urgent.stop(), self._normal.stop())

    async def accept(self, raw: bytes, *, sender: Sender, key: str | None) -> Accepted:
        """One notification. Returns only after the COMMIT. Raises the errors of `domain.errors`."""
        request = decode.notification(raw)
        user = _check(request, sender)
        if user is not None and not self._recipients.is_known(user):
            await self._recipients.check(user)
        version = await self.pinned_version(request, sender=sender)
        if request.channels is UNSET and request.category:
            await self._follow_route(request, sender=sender)
        row = self._row(request, sender=sender, version=version)
        body = answer_of(row)
        writer = self._urgent if row[3] == Lane.HIGH else self._normal
        if key is None:
            await writer.put(row, key=None)
            return Accepted(row[0], Lane(row[3]), body)
        stored = await writer.put(row, key=_key(sender, ROUTE_ONE, key=key, raw=raw, answer=body))
        if stored.replay is None:
            return Accepted(row[0], Lane(row[3]), body)
        return Accepted(UUID(msgspec.json.decode(stored.replay)["id"]), Lane(row[3]), stored.replay, replay=True)

    def due(self, lane: Lane) -> None:
        """Something of this lane that did not come through here is due: group it."""
        self._poke(lane)

    async def check_recipient(self, user: User) -> None:
        """Raises RecipientUnknown, RecipientGone."""
        await self._recipients.check(user)

    async def accept_batch(
        self, raw: bytes, *, sender: Sender, key: str | None, problem: Callable[[TongdaError], dict[str, Any]]
    ) -> BatchAnswer:
        """Up to 1,000 notifications in one transaction; a bad one fails alone."""
        prepared = await self._prepare_batch(decode.batch(raw), sender=sender)
        rows = [item for item in prepared if not isinstance(item, TongdaError)]
        items = [
            {"error": problem(item)} if isinstance(item, TongdaError) else {"id": str(item[0]), "status": "accepted"}
            for item in prepared
        ]
        answer = {"items": items, "accepted": len(rows), "rejected": len(prepared) - len(rows)}
        body = msgspec.json.encode(answer)
        kept = _key(sender, ROUTE_BATCH, key=key, raw=raw, answer=body) if key is not None else None
        lanes = Counter(Lane(row[3]) for row in rows)
        if not rows and kept is None:
            return BatchAnswer(body, lanes)
        if await self._store_batch(rows, key=kept):
            self._committed(rows)
            return BatchAnswer(body, lanes)
        assert kept is not None
        [found] = await self._repository.kept([kept])
        first = judge(kept, found)
        if isinstance(first, TongdaError):
            raise first
        return BatchAnswer(first, {}, replay=True)

    async def _store_batch(self, rows: Sequence[Row], *, key: Key | None) -> bool:
        if self._batches_waiting >= MOST_BATCHES_WAITING:
            raise Overloaded
        self._batches_waiting += 1
        try:
            async with self._batches:
                return await self._repository.store_batch(rows, key=key)
        except AWAY as error:
            message = "The database did not take the batch in time; send it again with its Idempotency-Key."
            raise Unavailable(message) from error
        finally:
            self._batches_waiting -= 1

    async def _prepare_batch(self, items: Sequence[msgspec.Raw], *, sender: Sender) -> list[Row | TongdaError]:
        """A row or the reason against it for each item, in order."""
        requests: list[NotificationRequest | TongdaError] = []
        users: list[User | None] = []
        for turn, item in enumerate(items):
            if turn % 100 == 99:
                await asyncio.sleep(0)  # other requests, an OTP among them, go on meanwhile
            request, user = _decoded(item, sender)
            requests.append(request)
            users.append(user)
        refused = await self._recipients.check_all([user for user in users if user is not None])
        prepared: list[Row | TongdaError] = []
        for request, user in zip(requests, users, strict=True):
            if isinstance(request, TongdaError):
                prepared.append(request)
            elif user is not None and user in refused:
                prepared.append(refused[user])
            else:
                prepared.append(await self._prepared(request, sender=sender))
        return prepared

    async def _prepared(self, request: NotificationRequest, *, sender: Sender) -> Row | TongdaError:
        try:
            version = await self.pinned_version(request, sender=sender)
        except Invalid as error:
            return error
        if request.channels is UNSET and request.category:
            await self._follow_route(request, sender=sender)
        return self._row(request, sender=sender, version=version)

    async def pinned_version(self, request: NotificationRequest, *, sender: Sender) -> int | None:
        """The published version, pinned, its variables checked. Raises Invalid."""
        name = request.template
        if name is UNSET:
            return None
        template = self._catalog.published_cached(sender.tenant, name)
        if template is None:
            template = await self._catalog.published(sender.tenant, name)
        if template is None:
            raise Invalid.field("/template", "unknown", "There is no published template of this name.")
        errors = template.check({} if request.data is UNSET else request.data)
        if errors:
            raise Invalid(errors)
        if not request.category:
            request.category = template.category
        return template.version

    async def _follow_route(self, request: NotificationRequest, *, sender: Sender) -> None:
        """Pin the route of its category, if there is one. An address by itself can only be reached on its own channel."""
        if request.to.user is UNSET:
            return
        routes = self.routes.cached(sender.tenant)
        if routes is None:
            routes = await self.routes.of(sender.tenant)
        route = routes.get(request.category)
        if route is not None and route.channels:
            request.channels = list(route.channels)
            if request.strategy is UNSET:
                request.strategy = route.strategy

    def _row(self, request: NotificationRequest, *, sender: Sender, version: int | None) -> Row:
        lane = Lane.of(request.priority)
        direct = direct_address(request.to)
        return (
            uuid7(),
            sender.tenant,
            sender.app,
            int(lane),
            request.category,
            None if request.to.user is UNSET else request.to.user,
            direct[0] if direct else None,
            direct[1] if direct else None,
            "" if request.channels is UNSET else ",".join(request.channels),
            Strategy.ALL if request.strategy is UNSET else request.strategy,
            None if request.template is UNSET else request.template,
            version,
            _json(request.content),
            _json(request.data),
            _json(request.metadata),
            _options(request),
            None if request.send_at is UNSET else request.send_at,
            POLICIES[lane].expires_in if request.expires_in is UNSET else duration(request.expires_in),
            None if request.expires_at is UNSET else request.expires_at,
        )

    def _committed(self, rows: Iterable[Row]) -> None:
        """What is due now is grouped at once; what is due later is found by the sweep."""
        now = datetime.now(UTC)
        for lane in {row[3] for row in rows if row[16] is None or row[16] <= now}:
            self._poke(Lane(lane))


def _check(request: NotificationRequest, sender: Sender) -> User | None:
    """The user to look up. Raises Invalid."""
    errors = broken_rules(request)
    if errors:
        raise Invalid(errors)
    return None if request.to.user is UNSET else (sender.tenant, request.to.user)


def _decoded(item: msgspec.Raw, sender: Sender) -> tuple[NotificationRequest | TongdaError, User | None]:
    try:
        request = decode.notification(item)
        return request, _check(request, sender)
    except TongdaError as error:
        return error, None


def answer_of(row: Row) -> bytes:
    """The body of the 202."""
    lane = Lane(row[3]).label
    return b'{"id":"%s","status":"%s","lane":"%s"}' % (str(row[0]).encode(), Status.ACCEPTED.encode(), lane.encode())


def _json(value: Any) -> str | None:
    return None if value is UNSET else msgspec.json.encode(value).decode()


def _options(request: NotificationRequest) -> str | None:
    """What was posted and is only read again by the plan, the claim and GET."""
    options: dict[str, Any] = {}
    if request.on_unknown is not UNSET:
        options["on_unknown"] = request.on_unknown
    if request.expires_in is not UNSET:
        options["expires_in"] = duration(request.expires_in)
    return msgspec.json.encode(options).decode() if options else None


def _key(sender: Sender, route: str, *, key: str, raw: bytes, answer: bytes) -> Key:
    return Key(sender.tenant, sender.app, route, key, hashlib.sha256(raw).digest(), answer)


def key_errors(key: str) -> list[FieldError]:
    """Rules for the header Idempotency-Key."""
    if 0 < len(key) <= 255 and key.isprintable():
        return []
    return [FieldError("/headers/Idempotency-Key", "format", "A key has 1 to 255 printable characters.")]
