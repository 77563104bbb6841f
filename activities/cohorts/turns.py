"""One turn over an account at a time: of a cohort's groups, the one at work claims for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Serve = Callable[[], Awaitable[bool]]
"""Claims all that is due over an account, or puts it off. False: stopped before that."""


class Turns:
    """Of one cohort. What is due over an account is anybody's to claim, whichever group it came with: two at once would
    share the free slots, claim and record a few rows each, and under load need twice the statements."""

    def __init__(self) -> None:
        self._held: dict[str, list[asyncio.Future[bool]]] = {}
        """Accounts with a turn -> those who came during its round, to be told what the next one has come to."""

    async def take(self, account: str, serve: Serve) -> None:
        """Returns when all that is due by now has been claimed or put off, here or by whoever has the turn. Raises what
        `serve` raised here; where it fails or is stopped, the next of those who wait has the turn."""
        while account in self._held:
            asked = asyncio.get_running_loop().create_future()
            self._held[account].append(asked)
            if await asked:
                return
        self._held[account] = []
        waiting: list[asyncio.Future[bool]] = []
        try:
            while True:
                served = await serve()
                _tell(waiting, told=served)
                waiting, self._held[account] = self._held[account], []
                if not (served and waiting):
                    return
        finally:
            _tell([*waiting, *self._held.pop(account)], told=False)


def _tell(asked: list[asyncio.Future[bool]], *, told: bool) -> None:
    for one in asked:
        if not one.done():  # its group was cancelled
            one.set_result(told)
