"""From a decoded request to its COMMIT: template and recipient checked, lane and life decided, the row built."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from api.accept import decode
from api.accept.collecting import Collector, asked_of, collecting_errors, collects
from api.accept.kept import REFUSALS, KeptAnswers
from api.accept.recipients import Recipients, User
from api.accept.request import NotificationRequest
from api.accept.routing import CategoryRoutes
from api.accept.rows import Sender, follow, key_of, pinned, row_of, takes_a_route
from api.accept.rules import broken_rules
from api.accept.writer import CommitWriter
from domain.clock import Clock
from domain.errors import Invalid, Overloaded, TongdaError
from domain.lanes import Lane
from domain.states import Status
from infra.clock import SYSTEM_CLOCK
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.accept.collecting import Asked
from infra.postgres.accept.row import Row, lane_of
from infra.postgres.deadline import deadline, left_s
from infra.postgres.patience import STATEMENT_LIMIT_S
from infra.postgres.tenants.categories import Routes
from infra.rendering.catalog import TemplateCatalog

ROUTE_ONE = "POST /v1/notifications"
MOST_LOOKING = 2_000
"""Requests in one process for which something is just being asked of the database before their COMMIT (is this user there,
which version is published); more are refused at once."""

_BODIES = tuple(
    b'{"id":"%%s","status":"%s","lane":"%s"}' % (Status.ACCEPTED.encode(), lane.label.encode()) for lane in Lane
)
"""Bodies of the 202, by lane."""


class Accepted(NamedTuple):
    """The answer to one request."""

    id: str
    lane: Lane
    body: bytes
    replay: bool = False

    @classmethod
    def of(cls, row: Row) -> Accepted:
        """The first answer, for when it is stored."""
        name, lane = str(row.id), lane_of(row)
        return cls(name, lane, _BODIES[lane] % name.encode())

    @classmethod
    def replayed(cls, answer: bytes) -> Accepted:
        """The first answer, as it is stored under the key."""
        first = msgspec.json.decode(answer)
        return cls(first["id"], Lane.of(first["lane"]), answer, replay=True)


OnAnswer = Callable[[Accepted | TongdaError], None]
"""Takes the answer to one request, once. Must not raise."""


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
        self._recipients = recipients
        self._catalog = catalog
        self.routes = routes
        self._poke = poke
        self._collector = collector
        self._urgent = CommitWriter(repository, committed=self.committed, name="high")
        self._normal = CommitWriter(repository, committed=self.committed, name="normal")
        self.kept = KeptAnswers(repository, settled=self._settled)
        self._looking = 0

    async def stop(self) -> None:
        """Commit what was taken; nothing new is taken any more."""
        await asyncio.gather(self._urgent.stop(), self._normal.stop())

    @property
    def spent(self) -> Exception | None:
        """Why the database has just had no room for what was to be accepted; None: it had."""
        return self._urgent.spent or self._normal.spent

    async def accept(self, raw: bytes, *, sender: Sender, key: str | None) -> Accepted:
        """One notification. Returns only after the COMMIT. Raises the errors of `domain.errors`."""
        try:
            return await self._accept(raw, sender=sender, key=key)
        except REFUSALS as refusal:
            if key is None:
                raise
            asked = key_of(sender, ROUTE_ONE, key=key, raw=raw, answer=b"")
            return Accepted.replayed(await self.kept.instead_of(refusal, asked))

    async def _accept(self, raw: bytes, *, sender: Sender, key: str | None) -> Accepted:
        request = decode.notification(raw)
        user = checked(request, sender, now=self.clock.now())
        if self._looking >= MOST_LOOKING:
            raise Overloaded
        self._looking += 1
        try:
            with deadline(STATEMENT_LIMIT_S):
                if user is not None:
                    await self._recipients.check(user)
                row = await self.prepared(request, sender=sender)
        finally:
            self._looking -= 1
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
        self.committed([asked.row])
        return accepted

    async def put(self, row: Row, *, sender: Sender, route: str, key: str | None, raw: bytes) -> Accepted:
        """Store a row that is checked. Returns only after the COMMIT. Raises Overloaded, Unavailable, Conflict, Broken."""
        answered: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        accepted = Accepted.of(row)
        kept = None if key is None else key_of(sender, route, key=key, raw=raw, answer=accepted.body)
        self._put(row, accepted=accepted, key=kept, told=partial(_settle, answered))
        return await answered

    def accept_at_once(self, raw: bytes, *, sender: Sender, key: str | None, told: OnAnswer) -> bool:
        """`accept` without a task that waits, where everything that has to be known is remembered; otherwise False, and
        nothing has happened. `told` is called once, after the COMMIT. Raises what is wrong with a request without a key;
        with one, its key has to be asked for first."""
        try:
            return self._accept_at_once(raw, sender=sender, key=key, told=told)
        except REFUSALS:
            if key is None:
                raise
            return False

    def _accept_at_once(self, raw: bytes, *, sender: Sender, key: str | None, told: OnAnswer) -> bool:
        request = decode.notification(raw)
        if collects(request):
            return False
        user = checked(request, sender, now=self.clock.now())
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

    def _put(self, row: Row, *, accepted: Accepted, key: Key | None, told: OnAnswer) -> None:
        def stored(what: bytes | TongdaError | None) -> None:
            if what is None:
                told(accepted)
            else:
                told(Accepted.replayed(what) if isinstance(what, bytes) else what)

        (self._urgent if accepted.lane is Lane.HIGH else self._normal).put(row, key=key, told=stored)

    async def _settled(self) -> None:
        await asyncio.gather(self._urgent.settled(), self._normal.settled())

    def due(self, lane: Lane) -> None:
        """Something of this lane that did not come through here is due: group it."""
        self._poke(lane)

    async def check_recipient(self, user: User) -> None:
        """Raises RecipientUnknown, RecipientGone, TimeoutError."""
        await self._recipients.check(user)

    async def refused_recipients(self, users: Sequence[User]) -> Mapping[User, TongdaError]:
        """Those of `users` who cannot be written to, and why."""
        return await self._recipients.check_all(users)

    async def prepared(self, request: NotificationRequest, *, sender: Sender) -> Row | Asked | TongdaError:
        """What is stored of a request that is checked, template and route pinned; or what is wrong with its template."""
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
            follow(request, await self.routes_of(sender.tenant))

    async def routes_of(self, tenant: str) -> Routes:
        """Raises TimeoutError."""
        async with asyncio.timeout(left_s(STATEMENT_LIMIT_S)):
            return self.routes.cached(tenant) or await self.routes.of(tenant)

    async def category_of(self, tenant: str, *, template: str, version: int) -> str:
        """The template's own. Raises NotFound."""
        return (await self._catalog.version(tenant, template, version)).category

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
            async with asyncio.timeout(left_s(STATEMENT_LIMIT_S)):
                template = await self._catalog.published(sender.tenant, name)
        if template is None:
            raise Invalid.field("/template", "unknown", "There is no published template of this name.")
        return pinned(request, template)

    def committed(self, rows: Iterable[Row]) -> None:
        """What is due now is grouped at once; what is due later is found by the sweep."""
        now = self.clock.now()
        for lane in {lane_of(row) for row in rows if (at := row.send_at) is None or at <= now}:
            self._poke(lane)


def _settle(answered: asyncio.Future[Accepted], what: Accepted | TongdaError) -> None:
    if answered.done():  # whoever asked has gone
        return
    if isinstance(what, TongdaError):
        answered.set_exception(what)
    else:
        answered.set_result(what)


def checked(request: NotificationRequest, sender: Sender, *, now: datetime) -> User | None:
    """The user to look up. Raises Invalid."""
    errors = broken_rules(request, now=now)
    if collects(request):
        errors += collecting_errors(request, now=now)
    if errors:
        raise Invalid(errors)
    return None if request.to.user is UNSET else (sender.tenant, request.to.user)
