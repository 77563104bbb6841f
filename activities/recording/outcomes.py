"""Outcomes on their way to the database: what was claimed, decided and not yet recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import structlog

from activities.recording.patience import HELD_FOR_S, RETRY_MOST_S, Outages, patiently
from activities.recording.poison import Part, without_poison
from infra.postgres.engine.locks import Held
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.errors import POISON

log = structlog.get_logger()

FLUSH_ROWS = 50
FLUSH_AFTER_S = 0.1
MOST_HELD = 1000
"""Outcomes of one hand-over that wait for the database before it claims no more. In an outage nothing is claimed anyway."""


class Outcomes(Protocol):
    """Where outcomes are recorded: `OutcomeRepository`, or several activities together (`GroupCommit`)."""

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None: ...


class OutcomeWriter:
    """Collects the outcomes of one activity and flushes them: about 50 rows or 100 ms at a time, and at once when nothing
    else is in flight, so that a lone message waits for nobody."""

    def __init__(self, repository: Outcomes, *, in_flight: Callable[[], int], outages: Outages | None = None) -> None:
        """A flush is tried for a while before its error is raised (`activities.recording.patience`). Outcomes that could
        not be written are kept, and tried again with whatever is put later, and at the end."""
        self._repository = repository
        self._outages = outages
        self._in_flight = in_flight
        self._waiting: list[StepOutcome] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._parts: list[Part] = []
        """Under flush, last first."""
        self._failure: Exception | None = None
        self._gave_up = False
        self._held_since_s: float | None = None
        """time.monotonic() since when each flush has met a lock that was not to be had."""
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

    @property
    def closed(self) -> bool:
        """Nothing more is written."""
        return self._task.done()

    def held(self) -> Iterator[StepOutcome]:
        """What is not written yet."""
        yield from self._waiting
        for part in self._parts:
            yield from part.rows

    async def room(self) -> None:
        """Wait until few enough outcomes are held for more to be made."""
        while len(self._waiting) + sum(len(p.rows) for p in self._parts) >= MOST_HELD and not self._task.done():
            await self._idled()
            self._raise_failure()

    async def settle(self) -> None:
        """Wait until everything put so far is written. Raises what the flush raised; what it could not write is kept."""
        while (self._waiting or self._parts) and not self._task.done():
            await self._idled()
            self._raise_failure()
        if self._task.done():
            await self._task

    async def close(self) -> None:
        """Flush what is left, once more what could not be written. Raises what the last flush raised."""
        self._closing = True
        self._wake.set()
        await self._task
        if self._waiting:
            log.error("outcome.dropped", count=len(self._waiting))  # they are called lost in time
        self._raise_failure()

    async def _idled(self) -> None:
        self._idle.clear()
        self._wake.set()
        await self._idle.wait()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

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
            closing, self._failure = self._closing, None
            if self._waiting:
                await self._flush_waiting()
            self._idle.set()
            if closing and (self._failure is not None or not self._waiting):
                return
            if self._failure is None and (self._enough() or self._closing):
                self._wake.set()

    async def _flush_waiting(self) -> None:
        """What could not be written stays, before what was put since."""
        parts, self._waiting = [Part(self._waiting)], []
        self._parts = parts
        try:
            while parts:
                parts[-1:] = await self._flush(parts[-1])
        except Exception as error:
            self._failure, self._gave_up = error, True
            self._waiting[:0] = [outcome for part in reversed(parts) for outcome in part.rows]
        finally:
            self._parts = []

    async def _flush(self, part: Part) -> list[Part]:
        """Returns what is still to be written, last first."""
        for_s = 0.0 if self._gave_up else None
        try:
            held = await patiently(partial(self._record, part.rows), for_s=for_s, outages=self._outages)
        except POISON as error:
            return without_poison(part, error)
        self._gave_up = False
        self.written += len(part.rows) - len(held)
        if held:
            part.rows[:] = held
            await asyncio.sleep(RETRY_MOST_S)  # the others of this hand-over wait no longer than that
            self._waiting[:0] = held
        return []

    async def _record(self, rows: Sequence[StepOutcome]) -> list[StepOutcome]:
        """Returns those whose notification somebody keeps locked: they are tried again beside what comes next. Raises Held
        where that has lasted too long."""
        try:
            await self._repository.flush(rows, now_s=time.monotonic())
        except Held as error:
            now_s = time.monotonic()
            self._held_since_s = now_s if self._held_since_s is None else self._held_since_s
            if now_s > self._held_since_s + HELD_FOR_S:
                raise
            return [o for o in rows if o.claim.notification_id in error.ids]
        self._held_since_s = None
        return []
