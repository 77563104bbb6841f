"""A cohort's groups: what it began with, and what it took on later, each handed over by itself and waited for together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta

from activities.hand_over import HandOver


class Groups:
    """Whatever happens to one group, the others run to their end: none is cancelled between its claim and its send."""

    def __init__(self, make: Callable[[], HandOver], *, due_accounts: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._make = make
        self._due_accounts = due_accounts
        self._tasks: list[asyncio.Task[None]] = []
        self.handed_over = 0

    @property
    def at_work(self) -> int:
        """How many have not ended."""
        return sum(not task.done() for task in self._tasks)

    def start(self, *, recover: bool = False) -> None:
        """Hand over what is due by now; with `recover`, after what an earlier attempt left without an outcome."""
        self._tasks = [task for task in self._tasks if not task.done() or task.exception() is not None]
        self._tasks.append(asyncio.create_task(self._run(self._make(), recover=recover)))

    async def _run(self, hand_over: HandOver, *, recover: bool) -> None:
        try:
            if recover:
                await hand_over.recover()
            await _all(*[hand_over.account(name) for name in await self._due_accounts()])
        finally:
            await hand_over.close()
            self.handed_over += hand_over.handed_over

    async def last(self, *, at_most: timedelta) -> None:
        """Until the group that was started last has ended."""
        await asyncio.wait(self._tasks[-1:], timeout=at_most.total_seconds())

    async def ended(self) -> None:
        """Until all have: everything that happened is recorded and nothing is in our hands. Raises what the first of them
        raised that failed."""
        await _all(*self._tasks)


async def _all(*loops: Coroutine[None, None, None] | asyncio.Task[None]) -> None:
    """Run to the end whatever happens to one of them."""
    for error in await asyncio.gather(*loops, return_exceptions=True):
        if error is not None:
            raise error
