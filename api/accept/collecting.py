"""Requests that ask for a digest or against repeats: their rules, what they have in common, their own way to the COMMIT.

They take a transaction of their own, because they wait for each other's slots: in a group commit a digest that is being
closed would hold up whoever shares the group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import msgspec
from msgspec import UNSET

from api.accept.cross_field_rules import broken
from api.accept.request import NotificationRequest
from api.accept.rules import DIGEST, duration
from api.accept.writer import judge
from api.line import Line
from domain.addresses import has_control
from domain.digests import LEAST_WINDOW, MOST_WINDOW, Dedupe, Digest
from domain.errors import FieldError, TongdaError, Unavailable
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.accept.collecting import Asked, CollectRepository
from infra.postgres.accept.row import Row
from infra.postgres.engine.locks import LOST_RACE
from infra.postgres.errors import AWAY

MOST_AT_ONCE = 4
"""Such transactions in one process; they have connections of their own and never sit in front of an OTP."""
MOST_WAITING = 4_000
"""Half of it for one tenant alone; turns go round the tenants."""
COLLECTED_WITHIN_S = 8.0
"""Seconds for a transaction's turn and its COMMIT together; the same as the commit writer's limit."""


def collects(request: NotificationRequest) -> bool:
    """Whether the request asks for a digest, or against repeats."""
    return request.digest is not UNSET or request.dedupe is not UNSET


def collecting_errors(request: NotificationRequest, *, now: datetime) -> list[FieldError]:
    """The rules on digests and repeats that the request breaks; empty where it asks for neither."""
    errors: list[FieldError] = []
    if request.digest is not UNSET:
        _digest(request, errors, now=now)
    if request.dedupe is not UNSET:
        _window(duration(request.dedupe.window), "/dedupe/window", errors)
        if request.dedupe.key is not UNSET:
            _key(request.dedupe.key, "/dedupe/key", errors)
    return errors


def _digest(request: NotificationRequest, errors: list[FieldError], *, now: datetime) -> None:
    assert request.digest is not UNSET
    window = duration(request.digest.window)
    _key(request.digest.key, "/digest/key", errors)
    _window(window, "/digest/window", errors)
    errors += broken(DIGEST, request)
    if request.expires_at is not UNSET and window <= MOST_WINDOW and request.expires_at <= now + window:
        errors.append(FieldError("/expires_at", "range", "expires_at lies after the end of the digest's window."))


def _window(window: timedelta, pointer: str, errors: list[FieldError]) -> None:
    if not LEAST_WINDOW <= window <= MOST_WINDOW:
        errors.append(FieldError(pointer, "range", f"A window is at least 1 second and at most {MOST_WINDOW.days} days."))


def _key(key: str, pointer: str, errors: list[FieldError]) -> None:
    if has_control(key):
        errors.append(FieldError(pointer, "control_character", "A key holds no control characters."))


def asked_of(request: NotificationRequest, row: Row) -> Asked:
    """The row with its slots. Only what would go the same way, by the same version of a template, is collected together."""
    digest = dedupe = None
    if request.digest is not UNSET:
        way = (row.tenant, row.app, row.lane, row.category, row.user_id, row.channels, row.strategy, row.template,
               row.template_version)  # fmt: skip
        slot = _slot("digest", *way, request.digest.key)
        digest = Digest(slot, duration(request.digest.window), request.digest.first)
    if request.dedupe is not UNSET:
        who = (row.tenant, row.app, row.user_id, row.to_channel, row.to_address)
        if request.dedupe.key is UNSET:
            slot = content_slot(*who, row.channels, template=row.template, content=row.content, data=row.data)
        else:
            slot = _slot("dedupe", *who, "key", request.dedupe.key)
        dedupe = Dedupe(slot, duration(request.dedupe.window))
    return Asked(row, digest, dedupe)


def content_slot(*to: str | None, template: str | None, content: str | None, data: str | None) -> bytes:
    """What notifications to these have in common that say the same. `to`: tenant, app, user, channel and address, and the
    channels joined by commas; `content` and `data` as they are stored."""
    said = (None if content is None else msgspec.json.decode(content), {} if data is None else msgspec.json.decode(data))
    return _slot("dedupe", *to[:-1], "content", to[-1], template, *said)


def _slot(*parts: object) -> bytes:
    """One hash for what these have in common; it names nobody."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()


class Collector:
    """One a process."""

    def __init__(self, repository: CollectRepository, kept: AcceptRepository) -> None:
        self._repository = repository
        self._kept = kept
        self._line = Line(at_once=MOST_AT_ONCE, most=MOST_WAITING)

    async def store(
        self, asked: Sequence[Asked], *, key: Key | None, plain: Sequence[Row] = (), within_s: float = COLLECTED_WITHIN_S
    ) -> bytes | None:
        """Store all in one transaction; the first answer where the key was used before, and then nothing is stored. Raises
        Conflict (`idempotency_conflict`), Overloaded, Unavailable."""
        try:
            store = partial(self._store, asked, key=key, plain=plain)
            return await self._line.run(store, whose=asked[0].row.tenant, within_s=within_s)
        except (*AWAY, *LOST_RACE) as error:
            message = "The database did not take it in time; send this again with its Idempotency-Key."
            raise Unavailable(message) from error

    async def _store(self, asked: Sequence[Asked], *, key: Key | None, plain: Sequence[Row]) -> bytes | None:
        if await self._repository.store(asked, key=key, plain=plain):
            return None
        assert key is not None
        [found] = await self._kept.kept([key])
        first = judge(key, found)
        if isinstance(first, TongdaError):
            raise first
        return first
