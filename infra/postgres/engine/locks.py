"""The order of locks: whoever changes several notifications locks them by id first, and tries again when it loses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
"""A connection on loan from the pool."""

TRIES = 6
LOST_RACE: tuple[type[Exception], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
"""Somebody else was first; all of it was undone, and the same again may work."""

_LOCK = """
SELECT n.id, n.cancelled_at IS NOT NULL AS cancelled, n.erased_at IS NOT NULL AS erased FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT id, cancelled_at, erased_at FROM notification WHERE id = x.id OFFSET 0 FOR UPDATE) n
     ON n.cancelled_at IS NOT NULL OR n.erased_at IS NOT NULL"""
"""OFFSET 0 keeps the condition above the lock: the planner otherwise moves it below, and locks those only."""


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
    """Run `unit` in a transaction of its own; again after a deadlock or serialisation error, which undid all of it."""
    for turn in range(1, TRIES + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await unit(connection)
        except LOST_RACE:
            if turn == TRIES:
                raise
            await asyncio.sleep(random.uniform(0.0, 0.01 * 2**turn))
    raise AssertionError("unreachable")
