"""How fast an account may be used: a bucket that never lets more through than its rate, in any second.

A bucket of `burst` permits that fills with `per_second` lets `burst + per_second` through in its fullest second. So the
bucket is small and fills more slowly than the rate, by as much as it may hold beyond one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

BURST_SHARE = 0.1
"""The share of a second's permits that may go at once."""
AHEAD_S = 0.05
"""Permits that will be there so soon may be granted ahead, and are used when they are there: who asks when they are comes
a little late, and what a full bucket does not hold meanwhile is lost. Nobody waits longer than that because of it."""
STAYS_S = 0.5
"""Bulk that may have the next permit so soon stays and asks again shortly before; put off, it would come too late."""
MOST_DUE_S = 0.2
"""So much of the rate may be due to bulk, for what those with few messages had before it: they wait no longer for it."""


OTHERS_SHARE = 0.05
"""For so much of what the high lane gets a permit is due to the others: an endless flood of it would leave them none."""


class PermitRank(IntEnum):
    """Who asks, and so for whom a permit that is not there yet is kept."""

    HIGH = 0
    """The high lane: before everybody, but for one permit in twenty."""
    FEW = 1
    """Whoever has few messages: before bulk, for as long as that is no more than half of the permits."""
    BULK = 2
    """Has what the others leave, in turns, and one for each that those with few messages have before it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    burst: int
    per_second: float
    """Permits a second at which the bucket fills."""

    @classmethod
    def of(cls, rate_per_second: float) -> Bucket:
        burst = max(1, int(rate_per_second * BURST_SHARE))
        return cls(burst, rate_per_second - (burst - 1))

    @property
    def ahead(self) -> float:
        """Permits that may be granted before they are there."""
        return min(float(self.burst), self.per_second * AHEAD_S)

    @property
    def most_due(self) -> float:
        return max(1.0, self.per_second * MOST_DUE_S)


@dataclass(frozen=True, slots=True)
class Granted:
    """What may be sent, and in what time; with nothing granted, when it may be asked for again."""

    count: int
    wait: timedelta = timedelta(0)
    spacing: timedelta = timedelta(0)
    """Between one permit and the next."""
    stays: bool = False
    """With nothing granted: nothing is put off meanwhile."""
