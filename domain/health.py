"""How an account is doing, as one process sees it: a circuit breaker, and the share of calls that were slow.

Pure: every method is given the time, in seconds of a clock that never steps back.

    closed ── too many failures ──> open ── its time is over ──> half open ── a probe succeeds ──> closed
                                      ^                              │
                                      └────── a probe fails: longer ─┘

Beside it, whoever throttles is not called until the wait that was stated is over (`domain.throttle`); that opens nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from domain.refusal import Refusal
from domain.results import ResultClass
from domain.throttle import Throttle

WINDOW_S = 30.0
"""The circuit looks back this far."""
LEAST_CALLS = 10
"""Fewer in the window say nothing yet."""
FAILING_SHARE = 0.5
IN_A_ROW = 5
"""Failures without any success between them, however few the calls are."""
FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 30.0
"""A tenth of the high lane's life: what is parked waits for the end of an opening, and a provider that has come back is to
be found in time for it. A probe costs one call."""
PROBES = 1
"""Calls at a time while it is half open."""
UNFAILED_FIRST_S = 1.0
"""So long after an opening the probe is a message that has not failed yet: one that fails by itself would keep the circuit
open, and all others waiting. Those are parked until the same moment, and come within a fraction of that."""
MOST_FAILURES = 32_767
"""More than any message has."""
SLOW_S = 2.0
"""A call that takes longer is slow."""
SLOW_WINDOW_S = 60.0
MOST_REMEMBERED = 1000

FAILURES = frozenset({ResultClass.RETRY, ResultClass.CONFIG, ResultClass.TOKEN, ResultClass.UNKNOWN})
"""What speaks against the account. A throttle (RATE) and a refused message (RECIPIENT, PERMANENT) show that it works."""


class Circuit(StrEnum):
    """State of an account's breaker. Values are the names in the API."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class _Call:
    at_s: float
    failed: bool
    slow: bool


class Health:
    """One account. Calls are noted when they end."""

    def __init__(self) -> None:
        self._calls: deque[_Call] = deque(maxlen=MOST_REMEMBERED)
        self._in_a_row = 0
        self._open_until_s: float | None = None
        self._open_for_s = FIRST_OPEN_S
        self._look_from_s = float("-inf")
        self._look_for_s = FIRST_OPEN_S
        """When, and how long after that, a probe before its time may be made again (`look_again`)."""
        self._era = 0
        """Changes whenever the circuit opens or closes: a call tells of the era in which it began."""
        self._probes = 0
        """Under way, of this era."""
        self._slow_seen = False
        self.throttle = Throttle()
        self.succeeded_s: float | None = None
        """When the last call ended well, and the last one that did not."""
        self.failed_s: float | None = None
        self.failure = ""
        """Class and code of the last one that did not."""
        self.refusal = Refusal()

    def remember(self, result: ResultClass, code: str, *, now_s: float) -> None:
        """Keep the last answer for whoever looks at the account; it decides nothing."""
        self.refusal.note(result, code)
        if result in FAILURES:
            self.failed_s, self.failure = now_s, f"{result} {code}".rstrip()
        else:
            self.succeeded_s = now_s

    @property
    def tripped(self) -> bool:
        """Open or half open."""
        return self._open_until_s is not None

    def circuit(self, now_s: float) -> Circuit:
        if self._open_until_s is None:
            return Circuit.CLOSED
        return Circuit.OPEN if now_s < self._open_until_s else Circuit.HALF_OPEN

    def wait_s(self, now_s: float) -> float:
        """Seconds until a call may be tried; 0 = now. While a probe is under way, about as long as a probe takes."""
        return max(self._circuit_wait_s(now_s), self.throttle.wait_s(now_s))

    def probing(self, now_s: float) -> int | None:
        """Half open: how many failures a message that is the probe may have behind it. None: it is not."""
        if self._open_until_s is None or now_s < self._open_until_s:
            return None
        return 0 if self.unfailed_first_s(now_s) > 0 else MOST_FAILURES

    def unfailed_first_s(self, now_s: float) -> float:
        """How much longer the probe is a message that has not failed yet; 0 = any may be."""
        return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s + UNFAILED_FIRST_S - now_s)

    def look_again(self, now_s: float) -> bool:
        """Calls of another process have succeeded since: a probe may be made now. False: it may anyway, or the last that
        was made so has not succeeded, and it is too early for the next: each time twice as long, up to the longest opening.
        So the circuit's own waits hold where this process alone cannot reach the provider."""
        if self.circuit(now_s) is not Circuit.OPEN or now_s < self._look_from_s:
            return False
        self._look_for_s = min(self._look_for_s * 2, LONGEST_OPEN_S)
        self._look_from_s = now_s + self._look_for_s
        self._open_until_s = now_s
        return True

    def may_begin(self, now_s: float, *, wanted: int) -> int:
        """How many of `wanted` calls may begin now."""
        if self.throttle.wait_s(now_s) > 0:
            return 0
        match self.circuit(now_s):
            case Circuit.CLOSED:
                return wanted
            case Circuit.OPEN:
                return 0
            case Circuit.HALF_OPEN:
                return max(0, min(wanted, PROBES - self._probes))

    def begin(self, now_s: float, *, calls: int) -> int:
        """So many calls begin; each ends in `note` or `give_back`, with the era that this returns."""
        if self.circuit(now_s) is Circuit.HALF_OPEN:
            self._probes += calls
        return self._era

    def give_back(self, *, era: int, calls: int = 1) -> None:
        """So many calls were not made after all, or say nothing of the account."""
        if era == self._era:
            self._probes = max(0, self._probes - calls)

    def note(self, result: ResultClass, *, now_s: float, took_s: float, era: int | None = None) -> None:
        """A call has ended; `era` as `begin` gave it, None: it began just now. Of a call from before the circuit opened or
        closed, a success closes it, and a failure is no news: it is what opened it."""
        failed = result in FAILURES
        if failed and era not in (None, self._era):
            return
        half_open = self.circuit(now_s) is Circuit.HALF_OPEN
        if era in (None, self._era):
            self._probes = max(0, self._probes - 1)
        self._calls.append(_Call(now_s, failed, took_s > SLOW_S))
        self._slow_seen = self._slow_seen or took_s > SLOW_S
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if half_open and failed:
            self._open_for_s = min(self._open_for_s * 2, LONGEST_OPEN_S)
            self._open(now_s)
        elif not failed and self._open_until_s is not None:
            self._close()
        elif failed and self._open_until_s is None and self._trips(now_s):
            self._open(now_s)

    def weight_share(self, now_s: float) -> float:
        """What slowness leaves of the account's weight, in [0, 1]; drifts back as slow calls leave the window."""
        if not self._slow_seen:
            return 1.0  # asked for every step that is planned
        recent = [call for call in self._calls if call.at_s > now_s - SLOW_WINDOW_S]
        slow = sum(call.slow for call in recent)
        self._slow_seen = slow > 0
        return 1.0 - slow / len(recent) if len(recent) >= LEAST_CALLS else 1.0

    def _trips(self, now_s: float) -> bool:
        if self._in_a_row >= IN_A_ROW:
            return True
        recent = [call for call in self._calls if call.at_s > now_s - WINDOW_S]
        return len(recent) >= LEAST_CALLS and sum(call.failed for call in recent) >= FAILING_SHARE * len(recent)

    def _circuit_wait_s(self, now_s: float) -> float:
        match self.circuit(now_s):
            case Circuit.OPEN:
                assert self._open_until_s is not None
                return self._open_until_s - now_s
            case Circuit.HALF_OPEN if self._probes >= PROBES:
                return SLOW_S
            case _:
                return 0.0

    def _open(self, now_s: float) -> None:
        self._open_until_s = now_s + self._open_for_s
        self._begin_era()

    def _close(self) -> None:
        self._open_until_s = None
        self._open_for_s = self._look_for_s = FIRST_OPEN_S
        self._in_a_row = 0
        self._calls.clear()
        self._begin_era()

    def _begin_era(self) -> None:
        self._era += 1
        self._probes = 0
