"""A line in front of what few may do at a time: bounded in length, and in the time that anybody stands in it.

It is shared fairly: turns go round the tenants, and a tenant may have as many in it as there is room left. One that floods
it so has half of the line at the most; who comes with little finds room, and has a turn after one of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from domain.errors import Overloaded
from infra.postgres.deadline import deadline
from infra.postgres.patience import within

T = TypeVar("T")


class Line:
    """One a kind of work and process. It remembers no tenant that is not in it."""

    def __init__(self, *, at_once: int, most: int, of_one: int | None = None) -> None:
        """`of_one`: so many places at work one tenant has at the most, where the work may take long; None: all."""
        self._free = at_once
        self._of_one = at_once if of_one is None else of_one
        self._room = most
        self._inside: Counter[str] = Counter()
        self._at_work: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """In the order of the tenants' turns."""

    async def run(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        whose: str,
        within_s: float,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """Its result. Raises Overloaded at once where there is no room for more of this tenant, TimeoutError after
        `within_s`: what has not begun by then never does; what has is left to its own end, and keeps its place until then.
        `after` is waited for before the turn, in the line but in nobody's way. A line in front of another one has the first
        word: of its time, the other has what is left."""
        if self._inside[whose] >= self._room:
            raise Overloaded
        self._inside[whose] += 1
        self._room -= 1
        with deadline(within_s) as until:
            try:
                async with asyncio.timeout(until.left_s):
                    if after is not None:
                        await after()
                    await self._turn(whose)
            except BaseException:
                self._leave(whose)
                raise
            return await within(until.left_s, self._work(work, whose))

    async def _work(self, work: Callable[[], Coroutine[Any, Any, T]], whose: str) -> T:
        try:
            return await work()
        finally:
            self._leave(whose)
            self._give_back(whose)

    async def _turn(self, whose: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(turn)
        self._call_next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(turn, whose)
            else:  # it had just come
                self._give_back(whose)
            raise

    def _call_next(self) -> None:
        while self._free and (whose := next(filter(self._may_work, self._waiting), None)) is not None:
            waiting = self._waiting.pop(whose)
            turn = waiting.popleft()
            if waiting:
                self._waiting[whose] = waiting  # behind all the others
            if not turn.cancelled():
                self._free -= 1
                self._at_work[whose] += 1
                turn.set_result(None)

    def _may_work(self, whose: str) -> bool:
        return self._at_work[whose] < self._of_one

    def _forget(self, turn: asyncio.Future[None], whose: str) -> None:
        waiting = self._waiting.get(whose, deque())
        with contextlib.suppress(ValueError):  # it was called in the moment in which it left
            waiting.remove(turn)
        if not waiting:
            self._waiting.pop(whose, None)

    def _give_back(self, whose: str) -> None:
        self._free += 1
        _one_less(self._at_work, whose)
        self._call_next()

    def _leave(self, whose: str) -> None:
        self._room += 1
        _one_less(self._inside, whose)


def _one_less(of: Counter[str], whose: str) -> None:
    of[whose] -= 1
    if not of[whose]:
        del of[whose]
