"""Outcomes on their way to the database: what was claimed, decided and not yet recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from infra.postgres.engine.locks import LOST_RACE
from infra.postgres.engine.outcomes import StepOutcome
from infra.postgres.errors import AWAY, POISON

log = structlog.get_logger()

FLUSH_ROWS = 50
FLUSH_AFTER_S = 0.1
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 2.0
GIVE_UP_AFTER_S = 9.0
"""Just below `FLUSH_MARGIN`: after it the rows count as unknown, and the sweep says so."""


class Outcomes(Protocol):
    """Where outcomes are recorded: `OutcomeRepository`, or several activities together (`GroupCommit`)."""

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None: ...


class OutcomeWriter:
    """Collects the outcomes of one activity and flushes them: about 50 rows or 100 ms at a time, and at once when nothing
    else is in flight, so that a lone message waits for nobody."""

    def __init__(self, repository: Outcomes, *, in_flight: Callable[[], int]) -> None:
        self._repository = repository
        self._in_flight = in_flight
        self._waiting: list[StepOutcome] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._flushing = False
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._run())
        self.written = 0

    def put(self, outcome: StepOutcome) -> None:
        self._waiting.append(outcome)
        self.nudge()

    def nudge(self) -> None:
        """Something changed: enough rows, or nothing is in flight any more."""
        if self._enough():
            self._wake.set()
        elif self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._wake.set)

    async def settle(self) -> None:
        """Wait until everything put so far is written. Raises what the flush raised, if it could not be in time."""
        while (self._waiting or self._flushing) and not self._task.done():
            self._idle.clear()
            self._wake.set()
            await self._idle.wait()
        if self._task.done():
            await self._task

    async def close(self) -> None:
        """Flush what is left. Raises what the last flush raised, if it could not be written in time."""
        self._closing = True
        self._wake.set()
        await self._task

    def _enough(self) -> bool:
        return len(self._waiting) >= FLUSH_ROWS or (bool(self._waiting) and self._in_flight() == 0)

    async def _run(self) -> None:
        try:
            await self._flush_until_closed()
        finally:
            self._idle.set()

    async def _flush_until_closed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._waiting:
                rows, self._waiting, self._flushing = self._waiting, [], True
                await self._flush(rows)
                self._flushing = False
                self.written += len(rows)
            self._idle.set()
            if self._closing and not self._waiting:
                return
            if self._enough() or self._closing:
                self._wake.set()

    async def _flush(self, rows: list[StepOutcome]) -> None:
        """Try until the rows would count as unknown anyway; a row that poisons the statement is found by halving."""
        try:
            await patiently(lambda: self._repository.flush(rows, now_s=time.monotonic()))
        except POISON:
            await self._halve(rows)

    async def _halve(self, rows: list[StepOutcome]) -> None:
        if len(rows) == 1:
            claim = rows[0].claim
            log.exception("outcome.poison", notification_id=str(claim.notification_id), n=claim.n)
            return
        middle = len(rows) // 2
        await self._flush(rows[:middle])
        await self._flush(rows[middle:])


async def patiently(unit: Callable[[], Awaitable[None]]) -> None:
    """Run `unit`, which is safe to repeat, until it succeeds or what it has to tell would count as unknown anyway."""
    started_s, wait_s = time.monotonic(), RETRY_FIRST_S
    while True:
        try:
            return await unit()
        except POISON:
            raise
        except (*AWAY, *LOST_RACE):
            if time.monotonic() - started_s > GIVE_UP_AFTER_S:
                raise
            await asyncio.sleep(wait_s)
            wait_s = min(RETRY_MOST_S, 2 * wait_s)
