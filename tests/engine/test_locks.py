"""The order of locks: notifications first, by id; who loses a deadlock tries again."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from infra.postgres.engine.locks import lock_notifications, retried
from tests.engine.gates import done_or_blocked
from tests.engine.support import PERMANENT, Engine


async def test_a_notification_that_is_not_cancelled_is_locked(engine: Engine) -> None:
    """Caught once: without OFFSET 0 the planner moves the condition on cancelled_at below the lock, and then plan, flush
    and cancel run side by side over every notification that is still alive."""
    [notification] = await engine.accepted()
    async with engine.pool.acquire() as first, engine.pool.acquire() as second, first.transaction():
        assert await lock_notifications(first, [notification]) == set()
        await second.execute("SET lock_timeout = '50ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await lock_notifications(second, [notification])
        await second.execute("RESET lock_timeout")


async def test_who_waited_for_the_lock_sees_the_cancellation(engine: Engine) -> None:
    """Otherwise a flush that waited for a cancel would open the retry that was just cancelled."""
    [notification] = await engine.accepted()

    async def waiting() -> set[object]:
        async with engine.pool.acquire() as connection, connection.transaction():
            return set(await lock_notifications(connection, [notification]))

    async with engine.pool.acquire() as first, first.transaction():
        await lock_notifications(first, [notification])
        await first.execute("UPDATE notification SET cancelled_at = now() WHERE id = $1", notification)
        other = asyncio.create_task(waiting())
        await done_or_blocked(engine.pool, other)
        assert not other.done()
    assert await other == {notification}


async def test_a_flush_that_loses_a_deadlock_is_repeated(engine: Engine) -> None:
    """Catches: `retried` without its loop. Somebody locks in the other order (an operator by hand), PostgreSQL ends the
    flush, and what really happened would be lost."""
    cohort, [one, two] = await engine.planned(2)
    claims = await engine.claim(cohort)
    async with engine.pool.acquire() as rude:
        transaction = rude.transaction()
        await transaction.start()
        # The rude one never looks for a deadlock itself, so that it is always the flush that loses.
        await rude.execute("SET LOCAL deadlock_timeout = '1min'")
        await rude.execute("SELECT 1 FROM notification WHERE id = $1 FOR UPDATE", two)
        flush = asyncio.create_task(engine.flush(*[engine.answered(c, PERMANENT) for c in claims]))
        await done_or_blocked(engine.pool, flush)
        await rude.execute("SELECT 1 FROM notification WHERE id = $1 FOR UPDATE", one)
        await transaction.rollback()
    await flush
    assert [await engine.end(i) for i in (one, two)] == [("failed", "content_refused", True)] * 2


async def test_other_errors_are_not_repeated(engine: Engine) -> None:
    """A unit that fails for a reason of its own is told at once; repeating it would hide a poisoned row."""
    turns = 0

    async def unit(connection: object) -> None:
        nonlocal turns
        turns += 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await retried(engine.pool, unit)
    assert turns == 1
