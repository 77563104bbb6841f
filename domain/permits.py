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
"""Bulk may have permits that will be there so soon, a bucketful at most: nobody waits for longer because of it."""
STAYS_S = 0.5
"""Who has not got a permit that it may have so soon asks again then, and is not put off: it would come too late."""
MOST_DUE_S = 0.2
"""Of so much time permits may be due to bulk, for as many as those with few messages had before it."""


class PermitRank(IntEnum):
    """Who asks, and so for whom a permit that is not there yet is kept."""

    HIGH = 0
    """The high lane: before everybody."""
    FEW = 1
    """Whoever has few messages: before bulk, for as long as that is no more than half of the permits."""
    BULK = 2
    """Has what the others leave, in turns."""


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
        """Permits that bulk may have before they are there."""
        return min(float(self.burst), self.per_second * AHEAD_S)

    @property
    def most_due(self) -> float:
        return max(1.0, self.per_second * MOST_DUE_S)


@dataclass(frozen=True, slots=True)
class Granted:
    """What may be sent now; with nothing granted, when the next may be."""

    count: int
    wait: timedelta = timedelta(0)
    spacing: timedelta = timedelta(0)
    """Between one permit and the next."""
    stays: bool = False
    """With nothing granted: ask again then."""
