"""What time it is in this process. A port; `infra.clock` implements it twice, and tests/clock/test_contract.py holds both.

It is asked where this process itself decides by time: does it still believe what it remembers, has a key or token expired,
does a moment that somebody posted lie ahead. Due times, leases and whatever else several processes must agree on are
PostgreSQL's (`now()` in the statement), and workflows have Temporal's (`workflow.time()`). Deadlines of calls and the pace
of retries are no decisions: they stay with `time.monotonic` and asyncio.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Both are plain attributes or methods without waiting; a caller that asks often may keep the bound method."""

    def now(self) -> datetime:
        """The moment, in UTC, as people have it; may be set back or forward."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some moment of this process's; never goes back. For spans, not for moments."""
        ...
