"""Is this user there? Asked by every accept, so it is asked for many at once and remembered for moments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from domain.clock import Clock
from domain.errors import RecipientGone, RecipientUnknown
from infra.clock import SYSTEM_CLOCK
from infra.postgres.deadline import left_s, without_deadline
from infra.postgres.patience import STATEMENT_LIMIT_S
from infra.postgres.users.recipients import RecipientRepository

REMEMBER_S = 5.0
"""A user who is gone since is found by the plan; one who is unknown is asked for every time."""
MOST_REMEMBERED = 100_000
MOST_AT_ONCE = 500

User = tuple[str, str]
"""(tenant, user id)"""


class Recipients:
    """Collects the questions that arrive while one query is in flight; the next query answers them all."""

    def __init__(self, repository: RecipientRepository, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._repository = repository
        self._monotonic_s = clock.monotonic_s
        self._known: dict[User, float] = {}
        self._asked: dict[User, list[asyncio.Future[str | None]]] = {}
        self._asking: asyncio.Task[None] | None = None

    def is_known(self, user: User) -> bool:
        """Without asking: this user was active a moment ago."""
        until = self._known.get(user)
        return until is not None and until > self._monotonic_s()

    async def check(self, user: User) -> None:
        """Raises RecipientUnknown, RecipientGone, TimeoutError. Whoever has waited in vain is not asked for later."""
        if self.is_known(user):
            return
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(user, []).append(future)
        if self._asking is None or self._asking.done():
            self._asking = without_deadline(self._ask())
        try:
            async with asyncio.timeout(left_s(STATEMENT_LIMIT_S)):
                state = await future
        finally:
            self._forget(user, future)
        _judge(state)

    async def check_all(self, users: Sequence[User]) -> dict[User, RecipientUnknown | RecipientGone]:
        """Those of `users` who cannot be written to, and why."""
        distinct = [user for user in dict.fromkeys(users) if not self.is_known(user)]
        refused: dict[User, RecipientUnknown | RecipientGone] = {}
        for start in range(0, len(distinct), MOST_AT_ONCE):
            page = distinct[start : start + MOST_AT_ONCE]
            for user, state in zip(page, await self._repository.states(page), strict=True):
                self._remember(user, state)
                try:
                    _judge(state)
                except (RecipientUnknown, RecipientGone) as error:
                    refused[user] = error
        return refused

    async def _ask(self) -> None:
        while self._asked:
            page = list(self._asked)[:MOST_AT_ONCE]
            waiting = [self._asked.pop(user) for user in page]
            try:
                states = await self._repository.states(page)
            except Exception as error:
                for futures in waiting:
                    _settle(futures, error)
                continue
            for user, state, futures in zip(page, states, waiting, strict=True):
                self._remember(user, state)
                _settle(futures, state)

    def _forget(self, user: User, future: asyncio.Future[str | None]) -> None:
        """Whoever has given up leaves nothing behind, however long the query before takes."""
        waiting = self._asked.get(user)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._asked[user]

    def _remember(self, user: User, state: str | None) -> None:
        if state == "active":
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[user] = self._monotonic_s() + REMEMBER_S
        else:
            self._known.pop(user, None)


def _settle(futures: Sequence[asyncio.Future[str | None]], answer: str | Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _judge(state: str | None) -> None:
    if state is None:
        raise RecipientUnknown("No user has this id; create the user first, or send to an address.")
    if state != "active":
        raise RecipientGone("This user was erased, merged into another or deactivated.")
