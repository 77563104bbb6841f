"""Slots: the calls that may be in flight towards one account from this process, and who gets one next."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from domain.shares import put_off_s

GATHER_S = 0.005
"""How long a taker lets more slots become free, so that a claim takes many rows: no more than a call takes anyway."""
OF_FIRSTS, OF_OTHERS = 4, 2
"""A claim is made at once when a quarter (whoever goes first) or half (others) of the slots is free."""


@dataclass(slots=True, eq=False)
class _Taker:
    most: int
    least: int
    """It waits until so many are free; 1 once it has waited for long enough."""
    got: asyncio.Future[int]
    gathering: asyncio.TimerHandle | None = None


class Slots:
    """Two lines of takers: of those who go first, and of all others, who are served in the order they came, so that one
    cohort cannot keep another from an account. Where both wait, the lines take turns. The last `kept` slots are
    for those who go first."""

    def __init__(self, capacity: int, *, kept: int = 0) -> None:
        self.capacity = capacity
        self._kept = kept
        self._free = capacity
        self._firsts: deque[_Taker] = deque()
        self._others: deque[_Taker] = deque()
        self._others_next = False
        self._serving = False
        self._given_s = float("-inf")
        self._late_since_s: float | None = None
        self._emptied: set[asyncio.Future[None]] = set()

    @classmethod
    def for_many_servers(cls, capacity: int) -> Slots:
        """Slots of an account whose messages go to servers of their recipients: a quarter is kept for whoever goes first,
        however much bulk there is to one that hangs."""
        return cls(capacity, kept=capacity // 4)

    @property
    def free(self) -> int:
        return self._free

    async def take(self, most: int, *, first: bool = False, within_s: float | None = None) -> int:
        """Wait until a slot is free, or for moments until several are, and take up to `most`; returns how many. 0: none has
        become free `within_s`. With `first`: before others, and several are fewer."""
        least = self.capacity // OF_FIRSTS if first else (self.capacity - self._kept) // OF_OTHERS
        taker = _Taker(most, max(1, min(most, least)), asyncio.Future())
        line = self._firsts if first else self._others
        line.append(taker)
        self._serve()
        if taker.got.done():
            self._late_since_s = None
            return taker.got.result()
        try:
            async with asyncio.timeout(within_s):
                count = await taker.got
        except TimeoutError:
            count = self._withdrawn(taker, line)
            self._late_since_s = None if count else self._late_since_s or time.monotonic()
            return count
        except asyncio.CancelledError:
            self.give(self._withdrawn(taker, line))
            raise
        self._late_since_s = None
        return count

    def put_off_s(self) -> float:
        """Seconds until rows that found no free slot ask again: more, the longer none has been free."""
        return put_off_s(self._late_since_s, now_s=time.monotonic())

    def give(self, count: int = 1) -> None:
        """What is given in one turn of the event loop is shared out together: a claim then takes more rows."""
        self._free += count
        self._given_s = time.monotonic()
        if count and not self._serving and (self._firsts or self._others or self._emptied):
            self._serving = True
            asyncio.get_running_loop().call_soon(self._serve_waiting)

    async def all_free(self) -> None:
        """Wait until nothing is in flight."""
        while self._free < self.capacity:
            emptied: asyncio.Future[None] = asyncio.Future()
            self._emptied.add(emptied)
            try:
                await emptied
            finally:
                self._emptied.discard(emptied)

    def _withdrawn(self, taker: _Taker, line: deque[_Taker]) -> int:
        """Take it out of its line; returns how many slots it was given in the same moment."""
        if taker.got.done() and not taker.got.cancelled():
            return taker.got.result()
        if taker in line:
            self._leave(taker, line)
            self._serve()
        return 0

    def _leave(self, taker: _Taker, line: deque[_Taker]) -> None:
        line.remove(taker)
        if taker.gathering is not None:
            taker.gathering.cancel()

    def _serve_waiting(self) -> None:
        self._serving = False
        self._serve()

    def _serve(self) -> None:
        while (line := self._next_line()) is not None:
            taker = line[0]
            free = self._free_for(line)
            if taker.got.cancelled():  # it has not seen yet that its time is over
                self._leave(taker, line)
                continue
            if free < taker.least and self._more_come():
                if taker.gathering is None:
                    taker.gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered, taker)
                return
            self._leave(taker, line)
            self._others_next = line is self._firsts and bool(self._others)
            count = min(taker.most, free)
            self._free -= count
            taker.got.set_result(count)
        if self._free == self.capacity:
            for emptied in self._emptied:
                if not emptied.done():
                    emptied.set_result(None)

    def _next_line(self) -> deque[_Taker] | None:
        """Whose turn it is; None: nobody waits, or nothing is free."""
        others = bool(self._others) and self._free_for(self._others) > 0
        if self._firsts and self._free and not (self._others_next and others):
            return self._firsts
        return self._others if others else None

    def _free_for(self, line: deque[_Taker]) -> int:
        return self._free if line is self._firsts else max(0, self._free - self._kept)

    def _more_come(self) -> bool:
        """Slots become free by and by. Where all calls hang, waiting for several would be for nothing."""
        return time.monotonic() - self._given_s <= GATHER_S

    def _gathered(self, taker: _Taker) -> None:
        taker.least = 1
        self._serve()
