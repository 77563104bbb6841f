"""What waits for an account is made due beside whatever asked for it: that is a walk over what waits, and may be long."""

from __future__ import annotations

import asyncio

import structlog

from activities.accounts.account import Account
from domain.channels import Channel
from workers.accounts import Wake

log = structlog.get_logger()


class Waker:
    """One walk at a time. What is asked for meanwhile is done once afterwards, however often it was asked for."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._asked: dict[tuple[Channel, str | None], str] = {}
        """Whose, and the account for which it was asked."""
        self._task: asyncio.Task[None] | None = None

    def ask(self, account: Account) -> None:
        """Make due what waits for an account like this."""
        self._asked[account.channel, account.tenant] = account.name
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Wait for what was asked for."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """What is left is looked at again by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._asked:
            channel, tenant = key = next(iter(self._asked))
            name = self._asked.pop(key)
            try:
                await self._wake(channel, tenant=tenant)
            except Exception as error:  # what waits is looked at again by itself; the others are woken all the same
                log.warning("accounts.not_woken", account=name, code=type(error).__name__)
