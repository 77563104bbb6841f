"""`POST /v1/notifications/batch`: many requests in one transaction, each judged by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from api.accept import decode
from api.accept.collecting import Collector
from api.accept.kept import REFUSALS
from api.accept.recipients import User
from api.accept.request import NotificationRequest
from api.accept.rows import Sender, key_of
from api.accept.service import AcceptService, checked
from api.accept.writer import judge
from api.line import Line
from domain.errors import Overloaded, TongdaError, Unavailable
from domain.lanes import Lane
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.accept.collecting import Asked
from infra.postgres.accept.row import Row, lane_of
from infra.postgres.deadline import deadline
from infra.postgres.errors import AWAY
from infra.postgres.patience import STATEMENT_LIMIT_S, within

ROUTE = "POST /v1/notifications/batch"
MOST_AT_ONCE = 2
"""Batches that commit at a time; they have connections of their own and never sit in front of an OTP."""
MOST_UNDER_WAY = 64
"""Batches in one process between their look-ups and their answers; more are refused at once."""
STORED_WITHIN_S = 20.0
"""Seconds for a batch's look-ups, its turn and its COMMIT together."""
ITEMS_A_TURN = 50
"""Items, half a millisecond of this process, before other requests have their turn."""


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to a batch; `lanes` counts what was stored."""

    body: bytes
    lanes: dict[Lane, int]
    replay: bool = False


class BatchService:
    """One a process. Single requests go another way (`api.accept.service`)."""

    def __init__(self, accept: AcceptService, repository: AcceptRepository, *, collector: Collector) -> None:
        self._accept = accept
        self._repository = repository
        self._collector = collector
        self._line = Line(at_once=MOST_AT_ONCE, most=2 * MOST_UNDER_WAY)
        self._under_way = 0

    async def accept(
        self, raw: bytes, *, sender: Sender, key: str | None, problem: Callable[[TongdaError], dict[str, Any]]
    ) -> BatchAnswer:
        """Up to 1,000 notifications in one transaction; a bad one fails alone. Returns only after the COMMIT. Raises
        Overloaded, Unavailable, Conflict (`idempotency_conflict`), and what is wrong with the batch as a whole."""
        if self._under_way >= MOST_UNDER_WAY:
            raise Overloaded
        self._under_way += 1
        try:
            with deadline(STORED_WITHIN_S):
                prepared = await self._prepare(decode.batch(raw), sender=sender)
                return await self._store(prepared, raw=raw, sender=sender, key=key, problem=problem)
        except REFUSALS as refusal:  # of the batch as a whole; items that are refused now end at the key, with the others
            if key is None:
                raise
            asked = key_of(sender, ROUTE, key=key, raw=raw, answer=b"")
            return BatchAnswer(await self._accept.kept.instead_of(refusal, asked), {}, replay=True)
        except AWAY as error:
            message = "The database did not take the batch in time; send it again with its Idempotency-Key."
            raise Unavailable(message) from error
        finally:
            self._under_way -= 1

    async def _store(
        self, prepared: Sequence[Row | Asked | TongdaError], *, raw: bytes, sender: Sender, key: str | None,
        problem: Callable[[TongdaError], dict[str, Any]],
    ) -> BatchAnswer:  # fmt: skip
        asked = [item for item in prepared if isinstance(item, Asked)]
        plain = [item for item in prepared if isinstance(item, Row)]
        rows = [*plain, *(item.row for item in asked)]
        body = _body(prepared, accepted=len(rows), problem=problem)
        kept = key_of(sender, ROUTE, key=key, raw=raw, answer=body) if key is not None else None
        answer = BatchAnswer(body, Counter(lane_of(row) for row in rows))
        if not rows and kept is None:
            return answer
        store = partial(self._store_asked, asked, plain, key=kept) if asked else partial(self._store_plain, plain, key=kept)
        first = await self._line.run(store, whose=sender.tenant, within_s=STORED_WITHIN_S)
        if first is not None:
            return BatchAnswer(first, {}, replay=True)
        self._accept.committed(rows)
        return answer

    async def _store_asked(self, asked: Sequence[Asked], plain: Sequence[Row], *, key: Key | None) -> bytes | None:
        return await self._collector.store(asked, key=key, plain=plain, within_s=STORED_WITHIN_S)

    async def _store_plain(self, rows: Sequence[Row], *, key: Key | None) -> bytes | None:
        """The first answer where the key was there before. Raises Conflict."""
        if await self._repository.store_batch(rows, key=key):
            return None
        assert key is not None
        [found] = await self._repository.kept([key])
        first = judge(key, found)
        if isinstance(first, TongdaError):
            raise first
        return first

    async def _prepare(self, items: Sequence[msgspec.Raw], *, sender: Sender) -> list[Row | Asked | TongdaError]:
        """A row or the reason against it for each item, in order."""
        requests: list[NotificationRequest | TongdaError] = []
        users: list[User | None] = []
        now = self._accept.clock.now()
        for turn, item in enumerate(items):
            await _let_others(turn)
            request, user = _decoded(item, sender, now=now)
            requests.append(request)
            users.append(user)
        named = [user for user in users if user is not None]
        refused = await within(STATEMENT_LIMIT_S, self._accept.refused_recipients(named))
        prepared: list[Row | Asked | TongdaError] = []
        for turn, (request, user) in enumerate(zip(requests, users, strict=True)):
            await _let_others(turn)
            if isinstance(request, TongdaError):
                prepared.append(request)
            elif user is not None and user in refused:
                prepared.append(refused[user])
            else:
                prepared.append(await self._accept.prepared(request, sender=sender))
        return prepared


def _body(
    prepared: Sequence[Row | Asked | TongdaError], *, accepted: int, problem: Callable[[TongdaError], dict[str, Any]]
) -> bytes:
    items = [
        {"error": problem(item)} if isinstance(item, TongdaError) else {"id": str(item.id), "status": "accepted"}
        for item in prepared
    ]
    return msgspec.json.encode({"items": items, "accepted": accepted, "rejected": len(prepared) - accepted})


async def _let_others(turn: int) -> None:
    """Between the items of a batch: other requests, an OTP among them, go on meanwhile."""
    if turn % ITEMS_A_TURN == ITEMS_A_TURN - 1:
        await asyncio.sleep(0)


def _decoded(item: msgspec.Raw, sender: Sender, *, now: datetime) -> tuple[NotificationRequest | TongdaError, User | None]:
    try:
        request = decode.notification(item)
        return request, checked(request, sender, now=now)
    except TongdaError as error:
        return error, None
