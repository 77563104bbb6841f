"""How long this process goes on trying to tell the database what it alone knows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import asyncpg

from infra.postgres.engine.locks import LOST_RACE, Held
from infra.postgres.errors import AWAY, POISON, is_away

T = TypeVar("T")


class Outages:
    """Counts how often this process found the database away. While it could not look, it has seen nothing
    (`activities.handing_over.losses`)."""

    def __init__(self) -> None:
        self.count = 0

    def met(self) -> None:
        self.count += 1

    @contextlib.contextmanager
    def noticed(self) -> Iterator[None]:
        """Counts an outage if the block raises one; re-raises everything."""
        try:
            yield
        except Exception as error:
            if is_away(error):
                self.met()
            raise


RETRY_FIRST_S = 0.2
RETRY_MOST_S = 0.5
"""Less than the soonest resend of what is called unknown (`domain.lanes`): what is known is told before that begins."""
HELD_FOR_S = 600.0
"""What came of a hand-over is kept through an outage of ten minutes, less than a workflow's life
(`workflows.delivery.EXECUTION_LIMIT`), or until the process is killed. Meanwhile nobody calls it lost: that takes a look
into the database, and time after it (`activities.handing_over.losses`)."""
PASSING: tuple[type[Exception], ...] = (*AWAY, *LOST_RACE, Held, asyncpg.InvalidCachedStatementError)
"""The same again may work. The last: a migration has changed what a statement of this connection returns."""


async def patiently(unit: Callable[[], Awaitable[T]], *, for_s: float | None = None, outages: Outages | None = None) -> T:
    """Repeat `unit`, which must be safe to repeat, until it returns a value. Raises errors of `PASSING` after `for_s`
    (None: `HELD_FOR_S`), others at once. `outages` counts whenever the database was away."""
    until_s, wait_s = time.monotonic() + (HELD_FOR_S if for_s is None else for_s), RETRY_FIRST_S
    while True:
        try:
            return await unit()
        except POISON:
            raise
        except PASSING as error:
            if outages is not None and is_away(error):
                outages.met()
            if time.monotonic() >= until_s:
                raise
            await asyncio.sleep(wait_s)
            wait_s = min(RETRY_MOST_S, 2 * wait_s)
