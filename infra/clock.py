"""The machine's clock, and one that stands still until it is told to go on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """`domain.clock.Clock`. Has no state: every instance is the same clock."""

    monotonic_s = staticmethod(time.monotonic)  # kept by hot paths, where it costs what time.monotonic itself does

    def now(self) -> datetime:
        return datetime.now(UTC)


SYSTEM_CLOCK = SystemClock()


class ManualClock:
    """Twin for tests. It starts at the machine's moment, so that a real database's answers fit to it, or at `start`.

    Spans begin at a whole second and are counted as timedelta: what was advanced by whole seconds is so exactly.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = SYSTEM_CLOCK.now() if start is None else start.astimezone(UTC)
        self._since = timedelta(seconds=int(time.monotonic()))

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._since.total_seconds()

    def advance(self, span: timedelta) -> None:
        """Time passes. Raises ValueError where it would go back."""
        if span < timedelta():
            raise ValueError("time does not go back: to set the people's clock use `set`")
        self._now += span
        self._since += span

    def set(self, now: datetime) -> None:
        """Somebody, or NTP, sets the people's clock; spans go on as they were."""
        self._now = now.astimezone(UTC)
