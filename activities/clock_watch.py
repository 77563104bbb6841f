"""Has somebody set the database's clock? Compared with how much time has passed here, between one look and the next."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from domain.clock import Clock
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT, ClockRepository

log = structlog.get_logger()

STEP = timedelta(seconds=5)
"""The least that counts as a step: less may be the way to the database, or a clock that is being slewed."""
DIFFERS = timedelta(seconds=30)
"""Operators are told when this process's clock and the database's are further apart."""
DOUBTFUL = timedelta(days=1)
"""By more than this one of the two is badly wrong, and nothing is deleted for its age."""
LATE_S = (5.0, 30.0)
"""Seconds after a step back at which rows are looked for that were on their way then: transactions that had begun before
it, answers to what was claimed before it. Twice only: a retry that is made meanwhile may lie in the same moment."""
LAST_S = HAND_OVER_LIMIT.total_seconds() + 5.0
"""By then whatever was in somebody's hands then has its outcome. Only chains are looked at once more: what they began
meanwhile is known from what they began before."""
AROUND = timedelta(seconds=60)
"""Such rows are due at about the moment of the step, by the clock as it was before."""


class ClockWatch:
    """One a sweep. A look costs one short statement."""

    def __init__(self, repository: ClockRepository, *, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock
        self._seen: tuple[datetime, float] | None = None
        self._late: list[tuple[float, datetime, timedelta]] = []
        self._differed = False
        self._apart = timedelta()

    @property
    def credible(self) -> bool:
        """Both clocks say about the same day."""
        return self._apart < DOUBTFUL

    async def look(self) -> None:
        """Notice a step; after one back, make due again what was due."""
        before_s = self._clock.monotonic_s()
        now, latest = await self._repository.seen()
        after_s = self._clock.monotonic_s()
        expected = latest if self._seen is None else self._seen[0] + timedelta(seconds=before_s - self._seen[1])
        self._compare(now)
        if now < expected - STEP:
            moved = await self._repository.set_back(expected, by=expected - now)
            self._late = [(after_s + wait_s, expected, expected - now) for wait_s in (*LATE_S, LAST_S)]
            log.warning("clock.set_back", seconds=round((expected - now).total_seconds()), due_again=moved)
        elif self._seen is not None and now > expected + timedelta(seconds=after_s - before_s) + STEP:
            log.warning("clock.set_forward", seconds=round((now - expected).total_seconds()))
        elif self._late and self._late[0][0] <= after_s:
            _, since, by = self._late.pop(0)
            if self._late:
                await self._repository.set_back(since + AROUND, by=by, after=since - AROUND)
            else:
                await self._repository.begun_ahead(since + AROUND, by=by)
        self._seen = (now, after_s)

    def _compare(self, now: datetime) -> None:
        self._apart = abs(self._clock.now() - now)
        differs = self._apart > DIFFERS
        if differs and not self._differed:
            log.warning("clock.differs", seconds=round(self._apart.total_seconds()))
        self._differed = differs
