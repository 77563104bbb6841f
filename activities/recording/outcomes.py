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


class LockedForTooLong(Exception):
    """Somebody keeps notifications locked for so long that their outcomes are given up."""


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
        self._locked: list[StepOutcome] = []
        """Whose notification somebody keeps locked: they are tried again beside what comes next, and hold up nobody."""
        self._locked_since_s: float | None = None
        """time.monotonic() since when each flush has left some out."""
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
        yield from self._locked
        for part in self._parts:
            yield from part.rows

    def _held_count(self) -> int:
        return len(self._waiting) + len(self._locked) + sum(len(p.rows) for p in self._parts)

    async def room(self) -> None:
        """Wait until few enough outcomes are held for more to be made."""
        while self._held_count() >= MOST_HELD and not self._task.done():
            await self._idled()
            self._raise_failure()

    async def settle(self) -> None:
        """Wait until everything put so far is written, but for what somebody keeps locked. Raises what the flush raised;
        what it could not write is kept."""
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
        if dropped := len(self._waiting) + len(self._locked):
            log.error("outcome.dropped", count=dropped)  # they are called lost in time
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
            if self._waiting or self._locked:
                await self._flush_waiting()
            self._idle.set()
            if closing and (self._failure is not None or not (self._waiting or self._locked)):
                return
            if self._failure is None and (self._enough() or (self._closing and not self._locked)):
                self._wake.set()
            elif self._locked and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(RETRY_MOST_S, self._wake.set)

    async def _flush_waiting(self) -> None:
        """What could not be written stays, before what was put since."""
        parts, self._waiting, self._locked = [Part(self._locked + self._waiting)], [], []
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
            locked = await patiently(partial(self._record, part.rows), for_s=for_s, outages=self._outages)
        except POISON as error:
            return without_poison(part, error)
        self._gave_up = False
        self.written += len(part.rows) - len(locked)
        self._leave(locked)
        return []

    async def _record(self, rows: Sequence[StepOutcome]) -> list[StepOutcome]:
        """Returns those whose notification somebody keeps locked."""
        try:
            await self._repository.flush(rows, now_s=time.monotonic())
        except Held as error:
            return [o for o in rows if o.claim.notification_id in error.ids]
        return []

    def _leave(self, locked: Sequence[StepOutcome]) -> None:
        """For the next flush. Raises LockedForTooLong."""
        if not locked:
            self._locked_since_s = None
            return
        now_s = time.monotonic()
        self._locked_since_s = now_s if self._locked_since_s is None else self._locked_since_s
        if now_s > self._locked_since_s + HELD_FOR_S:
            raise LockedForTooLong(f"{len(locked)} outcomes, by another session")
        self._locked += locked
