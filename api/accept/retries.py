"""`POST /v1/notifications/retry`: what ended undelivered, tried anew; one, or all that fit a filter, so many at a time.

What arrived in part is tried over the channels that failed (`api.accept.partial_retries`)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from api.accept.partial_retries import PartialRetries, Tried
from api.accept.resend import row_again
from api.accept.rows import Sender
from api.accept.service import AcceptService
from api.accept.stored import is_test, options_of
from api.accept.writer import judge
from api.line import Line
from api.list_positions import cursor_of
from domain.errors import TongdaError
from domain.otp import STORED_CHANNELS
from domain.partials import Wanted
from domain.states import SUCCESS, Reason, Status
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.accept.row import Row, lane_of
from infra.postgres.engine.edits import EditRepository
from infra.postgres.lists.pages import Filters, Position
from infra.postgres.lists.retrying import RetryRepository

ROUTE = "POST /v1/notifications/retry"
MOST_COUNTED = 10_000
"""A dry run counts so far and then says where to go on."""
MOST_WAITING = 64
"""Half of it for one tenant alone; turns go round the tenants."""
RETRIED_WITHIN_S = 20.0
"""Seconds for a call's turn and its COMMIT together."""
MOST_NAMED = 1_000
"""Skipped notifications that an answer names; all are counted."""
ANY_THAT_FAILED = Wanted()
RETRIABLE = frozenset({Status.FAILED, Status.EXPIRED, Status.SUPPRESSED, Status.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Asked:
    """`filters` name one of the retriable states, or ask for what arrived in part."""

    filters: Filters
    limit: int
    position: Position | None = None
    one: UUID | None = None
    """Only this one, and then `filters` mean nothing."""
    wanted: Wanted = ANY_THAT_FAILED
    """Of what arrived in part: which channels."""


@dataclass(frozen=True, slots=True)
class RetryAnswer:
    body: bytes
    replay: bool = False


class RetryService:
    """One call at a time in each process: it stores up to a thousand notifications in a transaction."""

    def __init__(
        self,
        edits: EditRepository,
        retries: RetryRepository,
        repository: AcceptRepository,
        *,
        accept: AcceptService,
        partials: PartialRetries,
    ) -> None:
        self._edits = edits
        self._retries = retries
        self._partials = partials
        self._repository = repository
        self._accept = accept
        self._line = Line(at_once=1, most=MOST_WAITING)

    async def count(self, tenant: str, *, asked: Asked) -> bytes:
        """The answer of a dry run: what a real one would do at this moment. Nothing is stored. Raises NotFound."""
        if await self._is_partial(tenant, asked):
            return _partial_body(
                await self._partials.count(
                    tenant, one=asked.one, filters=asked.filters, wanted=asked.wanted, position=asked.position,
                    most=MOST_COUNTED,
                ),
                dry_run=True,
            )  # fmt: skip
        if asked.one is not None:
            old = await self._edits.stored(tenant, notification_id=asked.one)
            refused = await self._refused([old])
            if not refused and await self._retries.was_retried(asked.one):
                refused = {asked.one: "already_retried"}
            return _body(1, made=None, skipped=list(refused.items()), position=None)
        matched, position, skipped = 0, asked.position, list[tuple[UUID, str]]()
        while True:
            page = await self._retries.counted(tenant, filters=asked.filters, limit=1000, position=position)
            skipped += (await self._refused(page.rows)).items()
            matched, position = matched + len(page.rows), page.position
            if position is None or matched >= MOST_COUNTED or len(page.rows) < 1000:
                return _body(matched, made=None, skipped=skipped, position=position)

    async def retry(self, asked: Asked, *, sender: Sender, key: str | None, raw: bytes) -> RetryAnswer:
        """Raises NotFound, Conflict (`idempotency_conflict`), Overloaded, TimeoutError."""
        kept = None
        if key is not None:
            kept = Key(sender.tenant, sender.app, ROUTE, key, hashlib.sha256(raw).digest(), b"")
            if (first := await self._first(kept)) is not None:
                return first
        retry = partial(self._retry, asked, sender=sender, key=kept)
        return await self._line.run(retry, whose=sender.tenant, within_s=RETRIED_WITHIN_S)

    async def _first(self, key: Key) -> RetryAnswer | None:
        [found] = await self._repository.kept([key])
        if found is None:
            return None
        answer = judge(key, found)
        if isinstance(answer, TongdaError):
            raise answer
        return RetryAnswer(answer, replay=True)

    async def _is_partial(self, tenant: str, asked: Asked) -> bool:
        """Whether channels are tried, and not notifications. Raises NotFound."""
        if asked.one is None:
            return asked.filters.partial is True
        old = await self._edits.stored(tenant, notification_id=asked.one)
        return asked.filters.partial is True or old["partial"]

    async def _retry(self, asked: Asked, *, sender: Sender, key: Key | None) -> RetryAnswer:
        if await self._is_partial(sender.tenant, asked):
            answered = await self._partials.retry(
                sender.tenant, one=asked.one, filters=asked.filters, wanted=asked.wanted, limit=asked.limit,
                position=asked.position, key=key, body=partial(_partial_body, dry_run=False),
            )  # fmt: skip
            return RetryAnswer(answered) if answered is not None else await self._taken(key)
        olds, position = await self._olds(asked, tenant=sender.tenant)
        rows, skipped = await self._prepared(olds)

        def answer(done: set[UUID]) -> bytes:
            late = [(old, "already_retried") for old in rows if old not in done]
            made = [(old, rows[old].id) for old in rows if old in done]
            return _body(len(olds), made=made, skipped=[*skipped, *late], position=position)

        states = RETRIABLE if asked.one is not None else frozenset({str(asked.filters.status)})
        done = await self._retries.store(rows, states=frozenset(states), key=key, answer=answer)
        if done is None:
            return await self._taken(key)
        for lane in {lane_of(rows[old]) for old in done}:
            self._accept.due(lane)
        return RetryAnswer(answer(done))

    async def _taken(self, key: Key | None) -> RetryAnswer:
        assert key is not None
        first = await self._first(key)
        assert first is not None, "a key that is taken has been committed"
        return first

    async def _olds(self, asked: Asked, *, tenant: str) -> tuple[Sequence[asyncpg.Record], Position | None]:
        if asked.one is not None:
            return [await self._edits.stored(tenant, notification_id=asked.one)], None
        page = await self._retries.candidates(
            tenant, filters=asked.filters, limit=asked.limit, position=asked.position
        )  # fmt: skip
        return page.rows, page.position

    async def _prepared(self, olds: Sequence[asyncpg.Record]) -> tuple[dict[UUID, Row], list[tuple[UUID, str]]]:
        """New rows by the id of the old, and those that cannot be tried again, with the reason's code."""
        refused = await self._refused(olds)
        return {old["id"]: row_again(old) for old in olds if old["id"] not in refused}, list(refused.items())

    async def _refused(self, olds: Sequence[asyncpg.Record]) -> dict[UUID, str]:
        """Those that cannot be tried again, with the reason's code."""
        users = [(old["tenant"], old["user_id"]) for old in olds if old["user_id"] is not None]
        gone = await self._accept.refused_recipients(users)
        refused: dict[UUID, str] = {}
        for old in olds:
            refusal, user = _refusal(old), (old["tenant"], old["user_id"])
            if refusal is None and user in gone:
                refusal = gone[user].code
            if refusal is not None:
                refused[old["id"]] = refusal
        addressed = [old for old in olds if old["id"] not in refused and _only_identities(old)]
        return refused | dict.fromkeys(await self._retries.suppressed(addressed), str(Reason.ADDRESS_SUPPRESSED))


def _only_identities(old: asyncpg.Record) -> bool:
    """It goes to nothing but addresses that can be suppressed, and these are known: without channels a plan decides."""
    return old["user_id"] is None or (bool(old["channels"]) and STORED_CHANNELS.isdisjoint(old["channels"]))


def _refusal(old: asyncpg.Record) -> str | None:
    """Why it cannot be tried again, by what is stored."""
    if not old["final"]:
        return "still_open"
    if old["status"] in SUCCESS:
        return "arrived"
    if old["status"] not in RETRIABLE:
        return "cancelled"
    if "otp" in options_of(old):
        return "otp_message"
    if is_test(old):
        return "is_a_test"
    if old["reason"] == Reason.DUPLICATE:
        return "duplicate"
    if old["template"] is None and old["content"] is None:
        return "content_erased"
    if old["user_id"] is None and old["to_address"] is None:
        return "recipient_gone"
    return None


def _partial_body(tried: Tried, *, dry_run: bool) -> bytes:
    named = [] if dry_run else [{"id": str(one), "channels": list(channels)} for one, channels in tried.reopened]
    return _body(
        tried.matched, made=None if dry_run else (), skipped=tried.skipped, position=tried.position,
        reopened=named, channels=tried.by_channel,
    )  # fmt: skip


def _body(
    matched: int,
    *,
    made: Sequence[tuple[UUID, UUID]] | None,
    skipped: Sequence[tuple[UUID, str]],
    position: Position | None,
    reopened: Sequence[dict[str, Any]] = (),
    channels: Mapping[str, int] = MappingProxyType({}),
) -> bytes:
    """`made`: (old, new); None in a dry run."""
    return msgspec.json.encode(
        {
            "dry_run": made is None,
            "matched": matched,
            "retried": len(made or ()) + len(reopened),
            "retriable": matched - len(skipped),
            "made": [{"id": str(old), "as": str(new)} for old, new in (made or ())[:MOST_NAMED]],
            "reopened": reopened[:MOST_NAMED],
            "channels": dict(channels),
            "skipped": [{"id": str(old), "code": code} for old, code in skipped[:MOST_NAMED]],
            "skipped_by_code": dict(sorted(Counter(code for _, code in skipped).items())),
            "next_cursor": cursor_of(position),
        }
    )
