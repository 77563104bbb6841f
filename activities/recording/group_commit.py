"""Group commit of outcomes: what several cohorts of a process have to record is one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from activities.pace import UNPACED, Pacing
from activities.recording.outcomes import Outcomes
from infra.postgres.engine.locks import Held
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.errors import POISON

MOST_FLUSHING = 3
"""Flushes at a time, those that hang included: small steps would otherwise make a flush for every part that has waited."""
WAIT_S = 0.5
"""Outcomes that have waited this long for the flush under way get one of their own: it may be waiting for a lock."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    outcomes: Sequence[StepOutcome]
    steps: frozenset[tuple[UUID, int]]
    done: asyncio.Future[None]

    def waits_for(self, held: Collection[UUID]) -> bool:
        return any(notification_id in held for notification_id, _ in self.steps)


class GroupCommit:
    """As `OutcomeRepository.flush`, for many callers: what they bring while a flush is under way is the next one. A lone
    caller waits for nobody."""

    def __init__(self, repository: Outcomes, *, pacing: Pacing = UNPACED) -> None:
        self._repository = repository
        self._pacing = pacing
        self._waiting: list[_Part] = []
        self._flushing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:  # noqa: ARG002 - the moment of the write counts
        """Returns when these are recorded. Raises what their flush raised."""
        steps = frozenset((o.claim.notification_id, o.claim.n) for o in outcomes)
        loop = asyncio.get_running_loop()
        part = _Part(outcomes, steps, loop.create_future())
        self._waiting.append(part)
        if self._flushing == 0:
            self._start()
        else:
            loop.call_later(WAIT_S, self._hurry, part)
        await part.done

    def _hurry(self, part: _Part) -> None:
        if part in self._waiting and self._flushing < MOST_FLUSHING:
            self._start()

    def _start(self) -> None:
        self._flushing += 1
        task = asyncio.create_task(self._flush_waiting())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush_waiting(self) -> None:
        try:
            while self._waiting:
                await self._write(self._next())
        finally:
            self._flushing -= 1  # here, in the step that found nothing waiting: whoever comes next starts the next

    def _next(self) -> list[_Part]:
        """All that wait, or as many as make a step, but no step of a notification twice: of two outcomes each is judged by
        what the other has left."""
        parts: list[_Part] = []
        left: list[_Part] = []
        taken: set[tuple[UUID, int]] = set()
        for part in self._waiting:
            if taken.isdisjoint(part.steps) and self._pacing.batch_limit(len(taken) + 1) > len(taken):
                parts.append(part)
                taken |= part.steps
            else:
                left.append(part)
        self._waiting = left
        return parts

    async def _write(self, parts: Sequence[_Part]) -> None:
        """Each caller learns what became of its own; where a row poisons the statement, all are written one by one."""
        try:
            async with self._pacing.exclusive():
                await self._repository.flush([o for part in parts for o in part.outcomes], now_s=time.monotonic())
        except Held as error:
            for part in parts:
                _tell([part], error if part.waits_for(error.ids) else None)
        except POISON as error:
            if len(parts) == 1:
                _tell(parts, error)
                return
            for part in parts:
                await self._write([part])
        except BaseException as error:
            _tell(parts, error)
            if not isinstance(error, Exception):
                raise
        else:
            _tell(parts, None)


def _tell(parts: Sequence[_Part], error: BaseException | None) -> None:
    for part in parts:
        if part.done.done():
            continue  # its caller was cancelled
        if error is None:
            part.done.set_result(None)
        else:
            part.done.set_exception(error)
