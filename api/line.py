"""A line in front of what few may do at a time: bounded in length, and in the time that anybody stands in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from domain.errors import Overloaded
from infra.postgres.deadline import deadline
from infra.postgres.patience import within

T = TypeVar("T")


class Line:
    """One a kind of work and process."""

    def __init__(self, *, at_once: int, most: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._most = most
        self._inside = 0

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]], *, within_s: float) -> T:
        """Its result. Raises Overloaded at once where `most` are at work or in line, TimeoutError after `within_s`:
        what has not begun by then never does; what has is left to its own end, and keeps its place until then. A line in
        front of another one has the first word: of its time, the other has what is left."""
        if self._inside >= self._most:
            raise Overloaded
        self._inside += 1
        with deadline(within_s) as until:
            try:
                async with asyncio.timeout(until.left_s):
                    await self._places.acquire()
            except BaseException:
                self._inside -= 1
                raise
            return await within(until.left_s, self._at_work(work))

    async def _at_work(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await work()
        finally:
            self._inside -= 1
            self._places.release()
