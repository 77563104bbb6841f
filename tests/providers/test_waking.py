"""Who wakes what waits for an account: beside the heartbeat, one walk at a time, and each account for itself."""

from __future__ import annotations

import asyncio

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from domain.channels import Channel
from workers.waking import Waker


def account(tenant: str) -> Account:
    return Account(f"of-{tenant}", MemoryProvider(), Slots(1), tenant=tenant)


class Walks:
    """A wake that takes until it is let go, and fails for one tenant."""

    def __init__(self) -> None:
        self.begun: list[str | None] = []
        self.free = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self, channel: Channel, *, tenant: str | None) -> object:
        self.begun.append(tenant)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.free.wait()
        self.at_once -= 1
        if tenant == "broken":
            raise TimeoutError
        return None


async def test_walks_go_one_after_another_and_one_that_fails_stops_no_other() -> None:
    walks = Walks()
    waker = Waker(walks)
    for tenant in ("broken", "b", "c", "b"):
        waker.ask(account(tenant))
    await asyncio.sleep(0)
    waker.ask(account("broken"))
    walks.free.set()
    await waker.settled()
    assert walks.begun == ["broken", "b", "c", "broken"], "what was asked for during its walk is walked once more"
    assert walks.most_at_once == 1
    waker.ask(account("d"))
    await waker.settled()
    assert walks.begun[-1] == "d"


async def test_an_end_does_not_wait_for_a_walk() -> None:
    walks = Walks()
    waker = Waker(walks)
    await waker.close()
    waker.ask(account("a"))
    await asyncio.sleep(0)
    await waker.close()
    assert walks.begun == ["a"]
