"""Idempotency-Key for creating requests off the hot path: the same request again gets the first one's answer.

Also where it would be refused by now: the rules, what there is and this program go on after an answer. So what a creating
route refuses before its key was looked at is refused only after a look at the key (`OnceRoute`, `api.accept.kept`). Who may
not ask is told so first.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import Depends, Header, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from api.accept.rows import key_errors
from api.accept.service import Accepted
from api.accept.writer import judge
from api.container import Container, container_of
from api.replay_answers import KEY, KEY_TOLD
from api.security import Documented, Permission, Principal, authenticate, documented
from domain.errors import Conflict, Invalid, NotFound, RecipientGone, RecipientUnknown, TongdaError
from infra.postgres.accept.accepting import Key
from infra.postgres.accept.idempotency import Scope, claim, keep
from infra.secrets import derive

IdempotencyKey = Annotated[str | None, Header(alias=KEY, description=KEY_TOLD)]
located: set[Callable[..., object]] = set()
"""The dependencies made here of routes that answer with a Location; the OpenAPI document says so."""
REFUSALS = (RequestValidationError, Invalid, RecipientUnknown, RecipientGone, NotFound, Conflict)
"""What a request may be answered with later, though it was accepted."""


@dataclass(frozen=True, slots=True)
class Created:
    """What a creating unit made."""

    shown: BaseModel
    """The answer."""
    again: BaseModel | None = None
    """What a repetition gets where it must differ: secrets are answered once and never stored."""
    existed: bool = False
    """Asked for again, by whomever, it is the same thing: answered with 200."""


@dataclass(slots=True)
class Creation:
    """A creating request, authenticated; `run` makes it happen once."""

    principal: Principal
    container: Container
    request: Request
    key: str | None
    secret: bool = False
    """Its body holds a secret: its hash is keyed, so that nobody can test guesses against what is stored."""
    under: str | None = None
    """Where what was made is found; None: below the route's own path."""
    named: str | None = "id"
    """The answer's field by which it is found there; None: it is found nowhere."""
    key_seen: bool = False
    """Its key was looked at: a refusal from then on is one of the first request with it."""

    async def run(self, unit: Callable[[AsyncConnection], Awaitable[Created]]) -> Response:
        """Run `unit` in one transaction with its key.

        Raises what `unit` raises (and then nothing is kept), Conflict `idempotency_conflict`.
        """
        scope = await self._scope()
        async with self.container.database.engine.begin() as connection:
            if scope is None:
                return self._made(await unit(connection))
            kept = await claim(connection, scope)
            self.key_seen = True
            if kept is None:
                made = await unit(connection)
                await keep(connection, scope, answer=_encoded(made.again or made.shown))
                return self._made(made)
        first = judge(_key_of(scope), kept)
        if isinstance(first, TongdaError):
            raise first
        return self._replayed(first)

    async def instead_of(self, refusal: Exception) -> Response:
        """The answer to the first request with its key, had that one its body. Raises `refusal` where none was accepted,
        Conflict (`idempotency_conflict`), Overloaded, Unavailable."""
        scope = None if self.key_seen else await self._scope()
        if scope is None:
            raise refusal
        return self._replayed(await self.container.accept.kept.instead_of(refusal, _key_of(scope)))

    async def _scope(self) -> Scope | None:
        key = checked(self.key)
        if key is None:
            return None
        body = await self.request.body()
        body_hash = self._keyed(body) if self.secret else hashlib.sha256(body).digest()
        route = f"{self.request.method} {self.request.url.path}"
        return Scope(self.principal.tenant, self.principal.app, route, key, body_hash)

    def _keyed(self, body: bytes) -> bytes:
        secret_key = self.container.settings.secret_key.get_secret_value()
        return hmac.digest(derive(secret_key, "idempotency"), body, "sha256")

    def _made(self, made: Created) -> Response:
        code = status.HTTP_200_OK if made.existed else status.HTTP_201_CREATED
        return self._answer(_encoded(made.shown), code=code)

    def _replayed(self, body: bytes) -> Response:
        answer = self._answer(body, code=status.HTTP_200_OK)
        answer.headers["Idempotent-Replay"] = "true"
        return answer

    def _answer(self, body: bytes, *, code: int) -> Response:
        headers = {}
        if self.named is not None:
            under = quote(self.request.scope["path"]) if self.under is None else self.under
            headers["Location"] = f"{under}/{quote(str(msgspec.json.decode(body)[self.named]), safe='')}"
        return Response(body, status_code=code, headers=headers, media_type="application/json")


class OnceRoute(APIRoute):
    """For routers that have creating routes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        judged = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await judged(request)
            except REFUSALS as refusal:
                creation: Creation | None = getattr(request.state, "creation", None)
                if creation is None:
                    raise
                return await creation.instead_of(refusal)

        return answered


def creating(
    permission: Permission, *, secret: bool = False, under: str | None = None, named: str | None = "id"
) -> Callable[..., Awaitable[Creation]]:
    """A dependency: a creating request by a key that has `permission`; its router's routes are `OnceRoute`s. `secret`: its
    body holds a secret. `under`, `named`: see Creation."""

    async def creation(
        request: Request,
        container: Annotated[Container, Depends(container_of)],
        key: IdempotencyKey = None,
        _: Documented = None,
    ) -> Creation:
        who = await authenticate(request, container, permission)
        request.state.creation = made = Creation(who, container, request, key, secret, under, named)
        return made

    documented[creation] = permission
    if named is not None:
        located.add(creation)
    return creation


def accepted(answer: Accepted) -> Response:
    """202 for a notification that is stored now, 200 for a repetition of its request."""
    headers = {"Location": f"/v1/notifications/{answer.id}"}
    if answer.replay:
        headers["Idempotent-Replay"] = "true"
    code = status.HTTP_200_OK if answer.replay else status.HTTP_202_ACCEPTED
    return Response(answer.body, status_code=code, headers=headers, media_type="application/json")


def checked(key: str | None) -> str | None:
    """The key of a request that is answered by `accepted`. Raises Invalid."""
    if key is not None and (errors := key_errors(key)):
        raise Invalid(errors)
    return key


def _key_of(scope: Scope) -> Key:
    return Key(scope.tenant, scope.app, scope.route, scope.key, scope.body_hash, b"")


def _encoded(shown: BaseModel) -> bytes:
    """As the published schema names its fields: by their aliases."""
    return shown.model_dump_json(by_alias=True).encode()
