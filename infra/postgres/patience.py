"""A database that is not there yet, or that does not answer: waited for at the start, and never by a caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

import asyncpg
import structlog

from infra.postgres.condition import revision, revisions
from infra.postgres.deadline import deadline
from infra.postgres.errors import AWAY

log = structlog.get_logger()

T = TypeVar("T")
AGAIN_S = 0.5
STATEMENT_LIMIT_S = 5.0
NOT_YET: tuple[type[Exception], ...] = (*AWAY, asyncpg.InvalidCatalogNameError)


async def until_there(url: str, *, stopping: asyncio.Event) -> bool:
    """Wait until the database takes connections and has been migrated to this version or a later one, however long that
    takes; False when told to stop before.

    Raises the asyncpg errors and ValueErrors that no waiting mends, such as a wrong password. A database that does not
    exist is waited for: whoever starts everything at once makes it a moment later.
    """
    told, older = "", frozenset((await asyncio.to_thread(revisions))[1:])
    while not stopping.is_set():
        try:
            missing = await _missing(url, older=older)
        except asyncpg.ClientConfigurationError:  # an InterfaceError too, but of the URL
            raise
        except NOT_YET as error:
            missing = type(error).__name__
        if not missing:
            return True
        if missing != told:
            log.warning("database.waiting", code=missing)
            told = missing
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), AGAIN_S)
    return False


async def _missing(url: str, *, older: Collection[str]) -> str:
    """What there is still to wait for; empty: nothing. A revision that we do not know is a later one's."""
    connection = await asyncpg.connect(url, timeout=STATEMENT_LIMIT_S)
    try:
        applied = await revision(connection)
    finally:
        await connection.close(timeout=STATEMENT_LIMIT_S)
    return "NotMigrated" if applied is None or applied in older else ""


async def within(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Its result, or TimeoutError after `limit_s`. The work is then left to its own end and not cancelled (to take a
    statement back, asyncpg asks the server that does not answer, and waits for it as long again), but gets no further
    connection."""
    with deadline(limit_s) as until:
        task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=until.left_s)
    if not done:
        task.add_done_callback(_unheard)
        raise TimeoutError
    return task.result()


def _unheard(task: asyncio.Task[Any]) -> None:
    """Nobody waits for its error any more."""
    if not task.cancelled():
        task.exception()
