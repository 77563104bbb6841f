"""Provider accounts as a worker process holds them: each a bulkhead with slots of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from channels.base import Capabilities, Provider
from domain.channels import Channel


class Slots:
    """Calls that may be in flight towards one account from this process."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        return self._free

    async def take(self, most: int) -> int:
        """Wait until a slot is free, then take up to `most`; returns how many. Takers are served in the order they came
        (asyncio.Lock is fair), so that one cohort cannot keep another from an account."""
        async with self._turn:
            while self._free == 0:
                self._freed.clear()
                await self._freed.wait()
            got = min(most, self._free)
            self._free -= got
            return got

    def give(self, count: int = 1) -> None:
        self._free += count
        self._freed.set()


@dataclass(frozen=True, slots=True)
class Account:
    """One provider account, ready to send."""

    name: str
    provider: Provider
    slots: Slots

    @property
    def channel(self) -> Channel:
        return self.provider.capabilities.channel


class Accounts:
    """The accounts of this process by channel; one a channel for now."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._by_channel = {account.channel: account for account in accounts}

    @property
    def channels(self) -> frozenset[Channel]:
        return frozenset(self._by_channel)

    def of(self, channel: Channel) -> Account:
        return self._by_channel[channel]

    def capabilities_of(self, channel: Channel) -> Capabilities:
        """What the channel's provider can; where its account was taken away since the plan, nothing."""
        account = self._by_channel.get(channel)
        return account.provider.capabilities if account else Capabilities(provider="none", channel=channel)

    def name_of(self, channel: Channel) -> str | None:
        account = self._by_channel.get(channel)
        return account.name if account else None

    async def close(self) -> None:
        for account in self._by_channel.values():
            await account.provider.close()
