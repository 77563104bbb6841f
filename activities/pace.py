"""How bulk goes while somebody with few messages is at work: in small steps, one at a time.

Machines are shared: a plan or a claim of hundreds of rows, several at once, fills the event loop and PostgreSQL for tens of
milliseconds, which is what a lone message takes from its 202 to its provider. What is in flight towards providers is not
counted, so that slow ones are served as widely as ever. Nobody starves: small steps are still steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from domain.lanes import Lane
from infra.postgres.errors import AWAY

log = structlog.get_logger()

PACED_ROWS = 64
"""The most rows of a step while somebody with few messages is at work."""
LOOK_EVERY_S = 0.025
NOTED_FOR_S = 0.25
"""How long somebody with few messages counts as at work after having been seen."""
TURN_S = 0.1
"""The most that a step waits for the one before it."""


class Pace:
    """One a process. Cohorts of few in this process are known at once (`note`), those in others by a look into the database
    now and then (`refresh`)."""

    def __init__(self, few_at_work: Callable[[], Awaitable[Lane | None]], *, now_s: Callable[[], float] = time.monotonic):
        self._few_at_work = few_at_work
        self._now_s = now_s
        self._until_s = {lane: float("-inf") for lane in Lane}
        self._look_at_s = float("-inf")
        self._turn = asyncio.Lock()

    def note(self, lane: Lane) -> None:
        """A cohort of few is at work in this lane."""
        self._until_s[lane] = self._now_s() + NOTED_FOR_S

    def yields(self, lane: Lane) -> bool:
        """Whether somebody with few messages is at work in this lane or a more urgent one."""
        now_s = self._now_s()
        return any(until_s > now_s for other, until_s in self._until_s.items() if other <= lane)

    async def refresh(self) -> None:
        """Look whether another process has a cohort of few at work; at most every `LOOK_EVERY_S`."""
        now_s = self._now_s()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        try:
            lane = await self._few_at_work()
        except AWAY as error:
            log.warning("pace.away", code=type(error).__name__)  # whoever asked finds out by itself
            return
        if lane is not None:
            self.note(lane)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One step at a time; but one that hangs, for instance at somebody's lock, holds others up for `TURN_S` only."""
        held = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TURN_S):
                held = await self._turn.acquire()
        try:
            yield
        finally:
            if held:
                self._turn.release()


class Pacing(Protocol):
    """How a cohort goes about its work, or the flushes of a lane."""

    @property
    def goes_first(self) -> bool:
        """Whether it is served before others who wait for the same slots."""
        ...

    def batch_limit(self, rows: int) -> int:
        """How many of so many rows may be taken in one step now."""
        ...

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Held around the database work of one step."""
        ...

    async def refresh(self) -> None:
        """See what other processes have at work, if that was not seen just now."""
        ...


class Paced:
    """A cohort of many: small steps, one at a time, while somebody with few messages is at work."""

    goes_first = False

    def __init__(self, pace: Pace, lane: Lane) -> None:
        self._pace = pace
        self._lane = lane

    def batch_limit(self, rows: int) -> int:
        return min(rows, PACED_ROWS) if self._pace.yields(self._lane) else rows

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        return self._pace.turn() if self._pace.yields(self._lane) else contextlib.nullcontext()

    async def refresh(self) -> None:
        await self._pace.refresh()


class Unpaced:
    """A cohort of few: at once, and as much as there is."""

    goes_first = True

    def batch_limit(self, rows: int) -> int:
        return rows

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()

    async def refresh(self) -> None:
        return


UNPACED = Unpaced()
