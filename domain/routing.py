"""Which provider account takes a step: by order, then cost, then weight, past those that are tried or out of order.

order    tiers: the next tier is used only when no account of the ones before can take it
cost     within a tier the cheapest first
weight   among equally cheap ones, shares; a slow account's weight shrinks (`domain.health`)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from domain.channels import Channel

LIGHTEST = 0.01
"""Whatever its weight became, an account of the best tier gets this share of it: otherwise nothing would show that it is
well again."""


@dataclass(frozen=True, slots=True)
class Route:
    """One account as the choice sees it."""

    account: str
    """Its key: unique in the installation, stable, holds no secret."""
    channel: Channel
    tenant: str | None = None
    """None: an account of the installation, for every tenant that has none of its own on this channel."""
    order: int = 0
    cost: float = 0.0
    """Of one message, in whatever unit the operator uses for all."""
    weight: int = 1
    """0: only when no other of its tier can take it."""


def routes_of(routes: Sequence[Route], *, tenant: str, channel: Channel) -> Sequence[Route]:
    """The accounts that may serve this tenant: its own where it has any, otherwise the installation's."""
    fitting = [route for route in routes if route.channel is channel]
    own = [route for route in fitting if route.tenant == tenant]
    return own or [route for route in fitting if route.tenant is None]


def choose(
    routes: Sequence[Route],
    *,
    spread: float,
    tried: Collection[str] = (),
    usable: Callable[[str], bool] = lambda _: True,
    share: Callable[[str], float] = lambda _: 1.0,
) -> Route | None:
    """The account to use; None when all are tried or none is usable.

    `spread` in [0, 1) is the random number behind the shares, given so that a test can decide it. `share` in [0, 1] is
    what slowness leaves of an account's weight.
    """
    open_ = [route for route in routes if route.account not in tried and usable(route.account)]
    if not open_:
        return None
    best = min((route.order, route.weight == 0, route.cost) for route in open_)
    equal = [route for route in open_ if (route.order, route.weight == 0, route.cost) == best]
    equal.sort(key=lambda route: route.account)
    weights = [max(route.weight, 1) * max(share(route.account), LIGHTEST) for route in equal]
    point = spread * sum(weights)
    for route, weight in zip(equal, weights, strict=True):
        point -= weight
        if point < 0:
            return route
    return equal[-1]
