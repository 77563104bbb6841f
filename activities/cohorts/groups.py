"""A cohort's groups: what it began with, what it took on later, and what became due again meanwhile, each handed over by
itself and waited for together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol

from activities.cohorts.turns import Turns
from activities.handing_over.hand_over import HandOver


class Due(Protocol):
    """What of a cohort is due, as the database knows it."""

    async def accounts(self) -> Sequence[str]:
        """Accounts over which something is due now, as far as this call is to serve them."""
        ...

    async def next_s(self, account: str) -> float | None:
        """Seconds until the next open row is due over this account; None when there is none."""
        ...


class Groups:
    """Whatever happens to one group, the others run to their end: none is cancelled between its claim and its send. Over an
    account one at a time claims, for all (`Turns`).

    What becomes due again while one is at work is followed up: handed over in its time, over each account at most every
    `follow_up_every_s`, until `follow_ups_stop`.
    """

    def __init__(
        self,
        make: Callable[[Callable[[], bool]], HandOver],
        *,
        due: Due,
        stopping: Callable[[], bool],
        follow_ups_stop: Callable[[], bool],
        follow_up_every_s: float,
    ) -> None:
        self._make = make
        self._due = due
        self._stopping = stopping
        self._follow_ups_stop = follow_ups_stop
        self._every_s = follow_up_every_s
        self._tasks: list[asyncio.Task[None]] = []
        self._timers: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._followed: set[str] = set()
        """Accounts whose follow-up is under way. It looks again at its end, so `due_again` starts no second one."""
        self._next_turn_s: dict[str, float] = {}
        self._turns = Turns()
        self._waits_since: dict[str, float] = {}
        """Accounts -> time.monotonic() since when a slot of theirs is waited for."""
        self.claiming = 0
        """Those that may claim more; the others only wait for answers."""
        self.handed_over = 0

    @property
    def at_work(self) -> int:
        """How many have not ended."""
        return sum(not task.done() for task in self._tasks)

    def start(self, *, recover: bool = False, over: Collection[str] | None = None) -> None:
        """Hand over what is due by now; with `recover`, after what an earlier attempt left without an outcome. `over`: the
        accounts over which something is due, where that is known; None: it is looked up."""
        self._begin(self._all_due(self._make(self._stopping), recover=recover, over=over))

    def due_again(self, account: str, at_s: float) -> None:
        """Something is due over this account at this time.monotonic()."""
        if account in self._followed:
            return
        now_s = time.monotonic()
        at_s = max(at_s, self._next_turn_s.get(account, now_s))
        if account in self._timers:
            planned_s, timer = self._timers[account]
            if planned_s <= at_s:
                return
            timer.cancel()
        if at_s > now_s:
            self._timers[account] = at_s, asyncio.get_running_loop().call_later(at_s - now_s, self._follow_up, account)
        else:
            self._follow_up(account)

    @contextlib.contextmanager
    def waiting_for_slot(self, account: str) -> Iterator[None]:
        """Afterwards the next claim over it is made."""
        self._waits_since.setdefault(account, time.monotonic())
        try:
            yield
        finally:
            self._waits_since.pop(account, None)
            self._turns.moved(account)

    @property
    def waits_since_s(self) -> float:
        """time.monotonic() since when a slot of any account is waited for; infinite when none is."""
        return min(self._waits_since.values(), default=float("inf"))

    async def wait_last(self, *, at_most: timedelta) -> None:
        """Until the group that was started last has ended."""
        await asyncio.wait(self._tasks[-1:], timeout=at_most.total_seconds())

    async def wait_within(self, at_most: timedelta) -> bool:
        """Wait so long for all of them, also for those that begin meanwhile; False: some have not ended."""
        until_s = time.monotonic() + at_most.total_seconds()
        while self.at_work and (left_s := until_s - time.monotonic()) > 0:
            await asyncio.wait([task for task in self._tasks if not task.done()], timeout=left_s)
        return not self.at_work

    async def wait_all(self) -> None:
        """Until all have: everything that happened is recorded and nothing is in our hands. What is due again later is left
        to the caller. Raises what the first of them raised that failed."""
        while self.at_work:
            await asyncio.wait(self._tasks)
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await _all(*self._tasks)

    def _begin(self, group: Coroutine[None, None, None]) -> None:
        self._tasks = [task for task in self._tasks if not task.done() or task.exception() is not None]
        self._tasks.append(asyncio.create_task(group))

    def _follow_up(self, account: str) -> None:
        self._timers.pop(account, None)
        if self._follow_ups_stop():
            return
        self._followed.add(account)
        self._next_turn_s[account] = time.monotonic() + self._every_s
        self._begin(self._due_over(self._make(self._follow_ups_stop), account))

    async def _all_due(self, hand_over: HandOver, *, recover: bool, over: Collection[str] | None) -> None:
        self.claiming += 1
        try:
            try:
                if recover:
                    await hand_over.recover()
                names = await self._due.accounts() if over is None else over
                await _all(*[self._turns.take(name, partial(hand_over.account, name)) for name in names])
            finally:
                self.claiming -= 1
        finally:
            await self._close(hand_over)

    async def _due_over(self, hand_over: HandOver, account: str) -> None:
        """Afterwards asks the database when the next row is due: `due_again` is told neither of every row that is given
        back nor of the later turns of parked ones."""
        try:
            self.claiming += 1
            try:
                await self._turns.take(account, partial(hand_over.account, account))
            finally:
                self.claiming -= 1
                self._followed.discard(account)
            next_s = await self._due.next_s(account)
            if next_s is not None:
                self.due_again(account, time.monotonic() + next_s)
        finally:
            await self._close(hand_over)

    async def _close(self, hand_over: HandOver) -> None:
        await hand_over.close()
        self.handed_over += hand_over.handed_over


async def _all(*loops: Coroutine[None, None, None] | asyncio.Task[None]) -> None:
    """Run to the end whatever happens to one of them."""
    for error in await asyncio.gather(*loops, return_exceptions=True):
        if error is not None:
            raise error
