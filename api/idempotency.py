"""Idempotency-Key for creating requests off the hot path: the same request again gets the first one's answer."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

import msgspec
from fastapi import Depends, Header, Request, Response, status
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from api.accept.rows import key_errors
from api.accept.service import Accepted
from api.accept.writer import judge
from api.container import Container, container_of
from api.security import Documented, Permission, Principal, authenticate, documented
from domain.errors import Invalid, TongdaError
from infra.postgres.accept.accepting import Key
from infra.postgres.accept.idempotency import Scope, claim, keep
from infra.secrets import derive

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Any 1 to 255 printable characters. The same key and body again gives the first answer, with status "
        "200 and `Idempotent-Replay: true`; the same key with another body gives 409. Kept 30 days.",
    ),
]


@dataclass(frozen=True, slots=True)
class Created:
    """What a creating unit made."""

    shown: BaseModel
    """The answer."""
    again: BaseModel | None = None
    """What a repetition gets where it must differ: secrets are answered once and never stored."""
    existed: bool = False
    """Asked for again, by whomever, it is the same thing: answered with 200."""


@dataclass(frozen=True, slots=True)
class Creation:
    """A creating request, authenticated; `run` makes it happen once."""

    principal: Principal
    container: Container
    request: Request
    key: str | None
    secret: bool = False
    """Its body holds a secret: its hash is keyed, so that nobody can test guesses against what is stored."""

    async def run(
        self, unit: Callable[[AsyncConnection], Awaitable[Created]], *, under: str, named: str = "id"
    ) -> Response:
        """Run `unit` in one transaction with its key. `under` is the path below which the answer's field `named` finds it.

        Raises what `unit` raises (and then nothing is kept), Conflict `idempotency_conflict`.
        """
        scope = await self._scope()
        async with self.container.database.engine.begin() as connection:
            if scope is None:
                return _first(await unit(connection), under=under, named=named)
            kept = await claim(connection, scope)
            if kept is None:
                made = await unit(connection)
                await keep(connection, scope, answer=(made.again or made.shown).model_dump_json().encode())
                return _first(made, under=under, named=named)
        key = Key(scope.tenant, scope.app, scope.route, scope.key, scope.body_hash, b"")
        first = judge(key, kept)
        if isinstance(first, TongdaError):
            raise first
        answer = _answer(first, code=status.HTTP_200_OK, under=under, named=named)
        answer.headers["Idempotent-Replay"] = "true"
        return answer

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


def creating(permission: Permission, *, secret: bool = False) -> Callable[..., Awaitable[Creation]]:
    """A dependency: a creating request by a key that has `permission`. `secret`: its body holds a secret."""

    async def creation(
        request: Request,
        container: Annotated[Container, Depends(container_of)],
        key: IdempotencyKey = None,
        _: Documented = None,
    ) -> Creation:
        return Creation(await authenticate(request, container, permission), container, request, key, secret)

    documented[creation] = permission
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


def _first(made: Created, *, under: str, named: str) -> Response:
    code = status.HTTP_200_OK if made.existed else status.HTTP_201_CREATED
    return _answer(made.shown.model_dump_json().encode(), code=code, under=under, named=named)


def _answer(body: bytes, *, code: int, under: str, named: str) -> Response:
    headers = {"Location": f"{under}/{quote(str(msgspec.json.decode(body)[named]), safe='')}"}
    return Response(body, status_code=code, headers=headers, media_type="application/json")
