"""Provider accounts as a worker process holds them: each a bulkhead with slots, permits and a health of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from channels.base import Capabilities, Provider
from domain.channels import Channel
from domain.health import Health
from domain.routing import Route, choose, routes_of
from domain.shares import Blocked, Shares, Target
from domain.timeline import LeftFor


class Stop(StrEnum):
    """Why an account takes nothing at all, whatever its circuit says. Values stand in timelines."""

    PAUSED = LeftFor.ACCOUNT_PAUSED.value
    BROKEN = LeftFor.ACCOUNT_BROKEN.value
    """Its row cannot be used: credentials that cannot be read, settings or a provider that this version does not know."""


@dataclass(frozen=True, slots=True)
class Account:
    """One provider account, ready to send."""

    name: str
    """Its key, as in `work.account`: unique in the installation."""
    provider: Provider
    slots: Slots
    tenant: str | None = None
    """None: an account of the installation."""
    order: int = 0
    cost: float = 0.0
    weight: int = 1
    permits: Permits | None = None
    """None: as fast as its slots allow."""
    receipt_within: timedelta | None = None
    """Where no receipt says `delivered` within this time, another account is used; None: never."""
    stopped: Stop | None = None
    """What is due over it goes over another account, or waits."""
    problem: str | None = None
    """With BROKEN: what is wrong, as a code."""
    health: Health = field(default_factory=Health)
    shares: Shares = field(default_factory=Shares)
    """Of its slots, where its messages go to servers of their recipients."""

    @property
    def in_use(self) -> int:
        """Calls under way, and slots that are taken for some."""
        return self.slots.capacity - self.slots.free

    def blocked(self, now_s: float, *, taken: int) -> Sequence[Blocked]:
        """Targets that may have no call now; `taken`: how many slots the caller has."""
        if not self.provider.capabilities.many_servers:
            return ()
        return self.shares.blocked(free=self.slots.free + taken, shared=self.tenant is None, now_s=now_s)

    def share_wait_s(self, target: Target, now_s: float, *, taken: int) -> float:
        """Seconds until this target may have one of the slots that were `taken`; 0 = now."""
        if not self.provider.capabilities.many_servers:
            return 0.0
        return self.shares.wait_s(target, free=self.slots.free + taken, shared=self.tenant is None, now_s=now_s)

    def unproven_at_once(self, now_s: float, *, taken: int) -> int:
        """How many of the `taken` slots one tenant may use for receivers that are not known to be quick; what is claimed
        beyond that is given back."""
        if self.tenant is not None:
            return taken
        left = self.slots.free + taken - self.shares.most_unproven(now_s)
        return max(1, min(taken, (left + 1) // 2))

    def holds_up(self, now_s: float) -> LeftFor | None:
        """Why it takes nothing now but a probe, however free it is; None: it works."""
        if self.stopped is not None:
            return LeftFor(self.stopped)
        if self.health.throttle.wait_s(now_s) > 0:
            return LeftFor.THROTTLED
        return LeftFor.CIRCUIT_OPEN if self.health.tripped else None

    def takes_nothing_for(self, now_s: float) -> LeftFor:
        """Why what is due over it is not handed over now."""
        return self.holds_up(now_s) or LeftFor.BUSY

    @property
    def channel(self) -> Channel:
        return self.provider.capabilities.channel

    @property
    def route(self) -> Route:
        return Route(self.name, self.channel, self.tenant, self.order, self.cost, self.weight)


class Accounts:
    """The accounts of this process. `clock` never steps back, in seconds; `spread` gives random numbers in [0, 1)."""

    def __init__(
        self,
        accounts: Iterable[Account],
        *,
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.clock = clock
        self._spread = spread
        self._routes: dict[tuple[str, Channel], tuple[Route, ...]] = {}
        self._by_name: dict[str, Account] = {}
        self.replace(accounts)

    def replace(self, accounts: Iterable[Account]) -> None:
        """Use these from now on. Calls over an account that has gone end as they would; whoever made it closes it."""
        self._by_name = {account.name: account for account in accounts}
        self._all = tuple(account.route for account in self._by_name.values())
        self._routes.clear()

    def __iter__(self) -> Iterator[Account]:
        return iter(tuple(self._by_name.values()))

    @property
    def channels(self) -> frozenset[Channel]:
        """Those that some account serves, whoever's it is."""
        return frozenset(route.channel for route in self._all)

    def served(self, tenant: str) -> frozenset[Channel]:
        """Channels that this tenant has an account for."""
        return frozenset(channel for channel in Channel if self._fitting(tenant, channel))

    def get(self, name: str) -> Account | None:
        return self._by_name.get(name)

    def choose(self, tenant: str, channel: Channel, *, tried: Collection[str] = ()) -> Account | None:
        """A usable account that was not tried; None where there is none."""
        routes = self._fitting(tenant, channel)
        if not routes or (len(routes) == 1 and routes[0].account in tried):
            return None
        now_s = self.clock()
        if len(routes) == 1:  # the usual case, twice for every message
            account = self._by_name[routes[0].account]
            return account if account.health.wait_s(now_s) <= 0 else None
        found = choose(
            routes,
            spread=self._spread(),
            tried=tried,
            usable=lambda name: self._by_name[name].stopped is None and self._by_name[name].health.wait_s(now_s) <= 0,
            share=lambda name: self._by_name[name].health.weight_share(now_s),
        )
        return self._by_name[found.account] if found else None

    def first(self, tenant: str, channel: Channel) -> Account | None:
        """The account of a step that begins: a usable one if there is any, otherwise one that will be again."""
        found = self.choose(tenant, channel)
        if found is None and (fitting := self._fitting(tenant, channel)):
            return self._by_name[min(fitting, key=lambda route: self._later(route.account)).account]
        return found

    def soonest_s(self, account: Account, *, tenant: str, now_s: float) -> float:
        """Seconds until this account, or another that the tenant could use instead, may be called; 0 = now."""
        waits_s = [account.health.wait_s(now_s)]
        for route in self._fitting(tenant, account.channel):
            other = self._by_name[route.account]
            if other.stopped is None:
                waits_s.append(other.health.wait_s(now_s))
        return min(waits_s)

    def capabilities_of(self, name: str, *, channel: Channel) -> Capabilities:
        """What the account's provider can; where it was taken away since the plan, nothing."""
        account = self._by_name.get(name)
        return account.provider.capabilities if account else Capabilities(provider="none", channel=channel)

    async def close(self) -> None:
        for account in self._by_name.values():
            await account.provider.close()

    def _fitting(self, tenant: str, channel: Channel) -> tuple[Route, ...]:
        found = self._routes.get((tenant, channel))
        if found is None:
            found = self._routes[tenant, channel] = tuple(routes_of(self._all, tenant=tenant, channel=channel))
        return found

    def _later(self, name: str) -> tuple[bool, float]:
        account = self._by_name[name]
        return account.stopped is not None, account.health.wait_s(self.clock())
