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
LEFT_BY_FEW = 0.75
"""The share of a bucketful that is there for bulk when it comes. The others may be taken before it is full: whoever comes a
fortieth of a second later lets nothing run over."""


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
    def left_by_few(self) -> int:
        """Permits that those leave to bulk who have had their half."""
        return max(1, int(self.burst * LEFT_BY_FEW))


@dataclass(frozen=True, slots=True)
class Granted:
    """What may be sent now; with nothing granted, when the next may be."""

    count: int
    wait: timedelta = timedelta(0)
    spacing: timedelta = timedelta(0)
    """Between one permit and the next."""
