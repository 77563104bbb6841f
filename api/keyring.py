"""API keys at the door: a presented key is looked up once and remembered for moments."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from api.roles import Role
from domain.clock import Clock
from domain.errors import Overloaded, Unauthenticated, Unavailable
from infra.clock import SYSTEM_CLOCK
from infra.postgres.deadline import without_deadline
from infra.postgres.errors import is_away
from infra.postgres.patience import STATEMENT_LIMIT_S
from infra.postgres.tenants.api_keys import ApiKeyRepository, FoundKey

KNOWN_FOR_S = 5.0
"""A revoked key is noticed within this time everywhere, at once in the process that revoked it; an expired one at once."""
UNKNOWN_FOR_S = 1.0
MOST_REMEMBERED = 10_000
"""Keys remembered, of each kind; the oldest go first."""
MOST_ASKED_FOR = 5_000
"""Requests whose key is just being looked up, in one process: more are refused at once."""
LONGEST_HEADER = 512

V = TypeVar("V")
_SCHEME = b"bearer "
_ROLES = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    tenant: str
    app: str
    """The calling module."""
    key_id: UUID
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    until_s: float
    """By the monotonic clock."""
    expires_at: datetime | None


class KeyRing:
    """One a process. A look-up is by SHA-256, so the time it takes tells nothing about a key."""

    def __init__(self, repository: ApiKeyRepository, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._repository = repository
        self._now, self._monotonic_s = clock.now, clock.monotonic_s
        self._known: dict[bytes, _Entry] = {}
        self._unknown: dict[bytes, float] = {}
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._waiting = 0

    async def authenticate(self, authorization: bytes | None) -> Principal:
        """From the header's bytes. Raises Unauthenticated, Overloaded, Unavailable (no database, and not
        remembered)."""
        return self.remembered(authorization) or await self._look_up(_hash(authorization))

    def remembered(self, authorization: bytes | None) -> Principal | None:
        """Without asking the database: the principal if the key is known, None if it has to be asked for.

        Raises Unauthenticated.
        """
        hash_ = _hash(authorization)
        now_s = self._monotonic_s()
        entry = self._known.get(hash_)
        if entry is not None and entry.until_s > now_s:
            if entry.expires_at is not None and entry.expires_at <= self._now():
                raise Unauthenticated("This API key has expired.")
            return entry.principal
        if self._unknown.get(hash_, 0.0) > now_s:
            raise Unauthenticated("This API key is not valid.")
        return None

    def forget(self, key_id: UUID) -> None:
        """Ask again next time: it was revoked or rotated in this process."""
        for hash_ in [h for h, entry in self._known.items() if entry.principal.key_id == key_id]:
            del self._known[hash_]
        self._asking.clear()  # a look-up under way may carry the answer from before

    async def _look_up(self, hash_: bytes) -> Principal:
        """Requests that come with the same key at the same time share one query."""
        if max(self._waiting, len(self._asking)) >= MOST_ASKED_FOR:
            raise Overloaded
        task = self._asking.get(hash_)
        if task is None:
            task = self._asking[hash_] = without_deadline(self._ask(hash_))
            task.add_done_callback(_retrieved)
        self._waiting += 1
        try:
            principal = await asyncio.wait_for(asyncio.shield(task), STATEMENT_LIMIT_S)
        except TimeoutError:
            raise Unavailable("The database that knows the API keys does not answer.") from None
        finally:
            self._waiting -= 1
        if principal is None:
            raise Unauthenticated("This API key is not valid.")
        return principal

    async def _ask(self, hash_: bytes) -> Principal | None:
        asked_s = self._monotonic_s()
        try:
            found = await self._repository.find(hash_)
        except Exception as error:
            if is_away(error):
                raise Unavailable("The database that knows the API keys cannot be reached.") from error
            raise
        finally:
            current = self._asking.get(hash_) is asyncio.current_task()
            if current:
                del self._asking[hash_]
        if found is None:
            _remember(self._unknown, hash_, asked_s + UNKNOWN_FOR_S)
            self._known.pop(hash_, None)
            return None
        principal = _principal(found)
        if current:
            self._unknown.pop(hash_, None)
            _remember(self._known, hash_, _Entry(principal, asked_s + KNOWN_FOR_S, found.expires_at))
        return principal


def _hash(authorization: bytes | None) -> bytes:
    """The hash under which the key is stored. Raises Unauthenticated."""
    if authorization is None:
        raise Unauthenticated
    if authorization[:7].lower() != _SCHEME or len(authorization) > LONGEST_HEADER:
        raise Unauthenticated
    return hashlib.sha256(authorization[7:].strip()).digest()


def _principal(found: FoundKey) -> Principal:
    return Principal(found.tenant, found.app, found.id, frozenset(Role(r) for r in found.roles if r in _ROLES))


def _remember(cache: dict[bytes, V], hash_: bytes, value: V) -> None:
    cache.pop(hash_, None)
    while len(cache) >= MOST_REMEMBERED:
        del cache[next(iter(cache))]
    cache[hash_] = value


def _retrieved(task: asyncio.Task[Principal | None]) -> None:
    """Every waiter may have gone; its error then is nobody's."""
    if not task.cancelled():
        task.exception()
