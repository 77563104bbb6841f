"""Until when somebody waits for what is being done: past that, nothing more of it begins at the database.

Whoever gives up on a piece of work cannot take back what the database has of it, and does not cancel it (see
`infra.postgres.patience.within`). Left alone it would go on with its next statement when the database does, for a caller
who has long been told that it failed. So the time is known wherever the work waits for a connection
(`infra.postgres.database`) or for a turn (`api.line`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Deadline:
    """Of one piece of work and all tasks that it makes."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s

    @property
    def left_s(self) -> float:
        """Nothing or less: it has passed."""
        return self._until_s - time.monotonic()

    def lift(self) -> None:
        """Its answer has begun: from here on it takes as long as it takes."""
        self._until_s = float("inf")


_CURRENT: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def deadline(limit_s: float) -> Iterator[Deadline]:
    """For what is called, and for tasks that are made, within; never later than one that holds already."""
    outer = _CURRENT.get()
    made = Deadline(time.monotonic() + (limit_s if outer is None else min(limit_s, outer.left_s)))
    token = _CURRENT.set(made)
    try:
        yield made
    finally:
        _CURRENT.reset(token)


def left_s(most_s: float) -> float:
    """How long one may wait here, at most `most_s`. Raises TimeoutError when nobody waits for the result any more."""
    current = _CURRENT.get()
    if current is None:
        return most_s
    left = current.left_s
    if left <= 0:
        raise TimeoutError
    return min(most_s, left)


def without_deadline(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for work that others share, or that outlives who happens to begin it."""
    context = copy_context()
    context.run(_CURRENT.set, None)
    return asyncio.create_task(work, context=context)
