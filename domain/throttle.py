"""Throttles: whoever says "not so often" is not called until the wait is over, however much waits for it.

Pure, as `domain.health`: every method is given the time, in seconds of a clock that never steps back.
"""

from __future__ import annotations

FIRST_S = 1.0
"""The wait where none was stated; it doubles while the answer stays the same."""
LONGEST_OWN_S = 60.0
LONGEST_STATED_S = 900.0
"""A message waits as long as was stated for it; all the others are not held back longer on the word of one answer."""


class Throttle:
    """Of one account, or of one origin where an account serves many."""

    __slots__ = ("_next_s", "until_s")

    def __init__(self) -> None:
        self.until_s = float("-inf")
        self._next_s = FIRST_S

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next call may be made; 0 = now."""
        return max(0.0, self.until_s - now_s)

    def hold(self, stated_s: float, *, now_s: float, took_s: float) -> None:
        """A call that took so long was throttled. `stated_s`: the wait that was asked for; 0: none was."""
        if stated_s > 0:
            self.until_s = max(self.until_s, now_s + min(stated_s, LONGEST_STATED_S))
        elif now_s - took_s >= self.until_s:  # what began before says the same once more
            self.until_s = now_s + self._next_s
            self._next_s = min(2 * self._next_s, LONGEST_OWN_S)

    def ease(self, *, now_s: float, took_s: float) -> None:
        """A call that took so long was taken."""
        if now_s - took_s >= self.until_s:
            self._next_s = FIRST_S
