"""The order of locks: whoever changes several notifications locks them by id first, and tries again when it loses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import structlog

from infra.postgres.errors import HELD

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger()

T = TypeVar("T")
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
"""A connection on loan from the pool."""

TRIES = 6
_UNDONE: tuple[type[Exception], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)
"""The last: a migration has changed what a statement of this connection returns."""
LOST_RACE: tuple[type[Exception], ...] = (*_UNDONE, *HELD)
"""Somebody else was first; all of it was undone, and the same again may work."""
REMEMBERED_S = 10.0
"""After it was found held: so long nobody waits for its lock again, but looks whether it is free."""

_LOCK = """
SELECT n.id, n.cancelled_at IS NOT NULL AS cancelled, n.erased_at IS NOT NULL AS erased FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT id, cancelled_at, erased_at FROM notification WHERE id = x.id OFFSET 0 FOR UPDATE) n
     ON n.cancelled_at IS NOT NULL OR n.erased_at IS NOT NULL"""
"""OFFSET 0 keeps the condition above the lock: the planner otherwise moves it below, and locks those only."""


_FREE = """
SELECT x.id FROM unnest($1::uuid[]) x(id)
LEFT JOIN LATERAL (SELECT id FROM notification WHERE id = x.id OFFSET 0 FOR UPDATE SKIP LOCKED) n ON true
LEFT JOIN LATERAL (SELECT id FROM notification WHERE id = x.id OFFSET 0) there ON true
WHERE n.id IS NOT NULL OR there.id IS NULL"""
"""What is not there any more is held by nobody."""
_IMPATIENT = "SET LOCAL lock_timeout = '100ms'"
"""Somebody has been waited for already. Whoever is at work there lets go in less."""


class Held(Exception):
    """Somebody has kept these notifications locked for longer than anybody waits (`infra.postgres.database.LOCK_WAIT`): a
    session that stands still in its transaction. What was asked for the others is done; the same again is safe."""

    def __init__(self, ids: frozenset[UUID]) -> None:
        super().__init__(f"{len(ids)} notifications are locked by a session that stands still")
        self.ids = ids


class HeldLately:
    """Notifications whose lock was not to be had a moment ago."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._until_s: dict[UUID, float] = {}

    def note(self, ids: Collection[UUID]) -> None:
        now_s = self._clock_s()
        self._until_s = {i: s for i, s in self._until_s.items() if s > now_s} | dict.fromkeys(ids, now_s + REMEMBERED_S)

    def of(self, ids: Collection[UUID]) -> frozenset[UUID]:
        """Those of `ids` that are among them."""
        if not self._until_s:
            return frozenset()
        now_s = self._clock_s()
        return frozenset(i for i in ids if self._until_s.get(i, now_s) > now_s)


@dataclass(frozen=True, slots=True)
class Locked:
    """What stands against going on as before."""

    cancelled: set[UUID]
    """Their cancellation was asked for."""
    erased: set[UUID]
    """Their recipient was erased: no address of theirs is written any more."""


async def lock_notifications(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Lock these rows in the order given, which must be ascending; returns those whose cancellation was asked for.

    What follows acts in a second statement, so that it sees what the former holder of the lock has written.
    """
    return (await lock_and_look(connection, ids)).cancelled


async def lock_and_look(connection: Connection, ids: Sequence[UUID]) -> Locked:
    """As `lock_notifications`, and tells more."""
    rows = await connection.fetch(_LOCK, ids)
    return Locked({row["id"] for row in rows if row["cancelled"]}, {row["id"] for row in rows if row["erased"]})


async def retried(pool: asyncpg.Pool, unit: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `unit` in a transaction of its own; again after a deadlock or serialisation error, which undid all of it. Raises
    one of `HELD` where it has waited for a lock for as long as anybody does."""
    for turn in range(1, TRIES + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await unit(connection)
        except _UNDONE:
            if turn == TRIES:
                raise
            await asyncio.sleep(random.uniform(0.0, 0.01 * 2**turn))
    raise AssertionError("unreachable")


async def over_free(
    pool: asyncpg.Pool,
    ids: Sequence[UUID],
    unit: Callable[[Connection, Sequence[UUID]], Awaitable[T]],
    *,
    lately: HeldLately | None = None,
) -> tuple[list[T], frozenset[UUID]]:
    """Run `unit`, which locks these notifications and rows of theirs, in a transaction of its own: what it returns, and
    whom it left out.

    Where somebody holds one of them and does not let go, the others are not his business: they are done without it, in
    parts, each a transaction. `lately`: what was held a moment ago is not waited for.
    """
    known = frozenset[UUID]() if lately is None else lately.of(ids)
    if not known:
        with contextlib.suppress(*HELD):
            return [await retried(pool, lambda connection: unit(connection, ids))], frozenset()
    parts = [[i] for i in known] + [[i for i in ids if i not in known]]
    results, held = list[T](), set[UUID]()
    while parts:
        part = parts.pop()
        try:
            done, locked = await retried(pool, partial(_over_what_is_free, ids=part, unit=unit))
        except HELD:  # a row of theirs is locked, and not the notification
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]] if middle else []
            held |= set(part if not middle else ())
        else:
            results += done
            held |= locked
    if held:
        log.warning("database.lock_held", count=len(held))
        if lately is not None:
            lately.note(held)
    return results, frozenset(held)


async def _over_what_is_free(
    connection: Connection, *, ids: Sequence[UUID], unit: Callable[[Connection, Sequence[UUID]], Awaitable[T]]
) -> tuple[list[T], frozenset[UUID]]:
    await connection.execute(_IMPATIENT)
    found = {row["id"] for row in await connection.fetch(_FREE, ids)}
    free = [i for i in ids if i in found]
    return [await unit(connection, free)] if free else [], frozenset(ids) - found
