"""One turn over an account at a time: of a cohort's groups, the one at work claims for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from domain.lanes import SLOT_WITHIN

STILL_S = SLOT_WITHIN.total_seconds() + 0.5
"""A turn in which nothing has moved for so long hangs, for instance at somebody's lock: nobody waits for it any longer."""

Serve = Callable[[], Awaitable[bool]]
"""Claims or puts off all that is due over an account. False: something may still be due."""


class _Turn:
    def __init__(self) -> None:
        self.asked: list[asyncio.Future[bool]] = []
        """By those who came during this round: told what the next one has come to."""
        self.moved_s = time.monotonic()


class Turns:
    """Of one drive of a cohort. What is due over an account is anybody's to claim, whichever group it came with: two at
    once would share the free slots, claim and record a few rows each, and under load need twice the statements."""

    def __init__(self) -> None:
        self._held: dict[str, _Turn] = {}

    def moved(self, account: str) -> None:
        """The next claim over it is made: its turn does not hang."""
        if (turn := self._held.get(account)) is not None:
            turn.moved_s = time.monotonic()

    async def take(self, account: str, serve: Serve) -> None:
        """Returns when all that is due by now has been claimed or put off, here or by whoever has the turn. Raises what
        `serve` raised here. Where it fails or is stopped, the next of those who wait has the turn; where it hangs, each of
        them serves beside it."""
        while (turn := self._held.get(account)) is not None:
            told = await _answer(turn)
            if told is None:
                await serve()
            if told is not False:
                return
        await self._rounds(account, serve)

    async def _rounds(self, account: str, serve: Serve) -> None:
        turn = self._held[account] = _Turn()
        waiting: list[asyncio.Future[bool]] = []
        try:
            while True:
                served = await serve()
                _tell(waiting, told=served)
                waiting, turn.asked = turn.asked, []
                if not (served and waiting):
                    return
        finally:
            del self._held[account]
            _tell([*waiting, *turn.asked], told=False)


async def _answer(turn: _Turn) -> bool | None:
    """None: it hangs."""
    asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    turn.asked.append(asked)
    while (left_s := turn.moved_s + STILL_S - time.monotonic()) > 0:
        if (await asyncio.wait([asked], timeout=left_s))[0]:
            return asked.result()
    asked.cancel()
    return None


def _tell(asked: list[asyncio.Future[bool]], *, told: bool) -> None:
    for one in asked:
        if not one.done():  # its group was cancelled, or waits no longer
            one.set_result(told)
