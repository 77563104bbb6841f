"""One turn over an account at a time: of a cohort's groups, the one at work claims for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Serve = Callable[[], Awaitable[bool]]
"""Claims all that is due over an account, or puts it off. False: stopped before that."""


class _Turn:
    def __init__(self) -> None:
        self.asked: list[asyncio.Future[bool]] = []
        """By those who came during this round: told what the next one has come to."""


class Turns:
    """Of one cohort. What is due over an account is anybody's to claim, whichever group it came with: two at once would share
    the free slots, claim and record a few rows each, and under load need twice the statements."""

    def __init__(self) -> None:
        self._held: dict[str, _Turn] = {}

    async def take(self, account: str, serve: Serve) -> None:
        """Returns when all that is due by now has been claimed or put off, here or by whoever has the turn. Raises what
        `serve` raised here; where it fails or is stopped, the next of those who wait has the turn."""
        while (turn := self._held.get(account)) is not None:
            asked = asyncio.get_running_loop().create_future()
            turn.asked.append(asked)
            if await asked:
                return
        turn, waiting = _Turn(), list[asyncio.Future[bool]]()
        self._held[account] = turn
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


def _tell(asked: list[asyncio.Future[bool]], *, told: bool) -> None:
    for one in asked:
        if not one.done():  # its group was cancelled
            one.set_result(told)
