"""Who may have another call over an account whose messages go to servers of their recipients (webhooks).

One server that hangs says nothing of the account, and opens no circuit; but its calls keep slots for as long as a call
may take, and a few such servers would have all of them. So a target, one tenant's messages to one endpoint, is watched.
While it answers soon it has as many slots as it can use. While it is slow it has at most half as many as are free, and
what a tenant has in flight to targets that are slow, or not known yet, is no more than are free: the more receivers are
slow, the fewer slots each has, and some are always left for whoever comes next (the dynamic thresholds of shared-memory
switches, Choudhury and Hahne 1998). What is refused is put off, the longer the longer there has been no place.

Pure: every method is given the time, in seconds of a clock that never steps back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

from domain.health import SLOW_S
from domain.throttle import Throttle

SLOW_FREE = 2
"""A slow target leaves so many slots free for each that it has."""
TRUSTED_FREE = 3
"""Endpoints that are not known, of a tenant whose last answer was quick and none of whose calls is late, have so many slots
for each that they leave free. Other tenants' have one."""
LEAST_WAIT_S, LONGEST_WAIT_S = 0.25, 20.0
MOST_TARGETS = 1000
"""Targets of one tenant that are remembered."""
MOST_LOOKED_AT = 100
"""Targets that are looked at to find one to forget: a tenant's many endpoints may all be held back."""
MOST_BLOCKED = 200
"""Targets that a claim leaves out; rows that it gets for further ones are given back."""
MOST_IN_ALL = 20_000
"""Targets of all tenants that are remembered."""
MOST_EXCEPTIONS = 300
"""Quick endpoints of a tenant that a claim is told of, those that answered last."""

_ENDPOINT = re.compile(r"[^?#]*")
ENDPOINT_PATTERN = f"^{_ENDPOINT.pattern}"
"""The same for PostgreSQL's `substring`."""

Target = tuple[str, str]
"""Tenant and endpoint: what one tenant's receiver says holds back nobody else's messages to the same URL."""


def endpoint_of(address: str) -> str:
    """A URL without query and fragment. Not its host: what hangs or throttles one customer's path of a gateway says nothing
    of the others'. Who writes one endpoint in many ways gains nothing: all of them count against the tenant."""
    match = _ENDPOINT.match(address)
    return match.group() if match else ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """What may not be called now."""

    tenant: str
    endpoint: str | None
    """None: all of the tenant's endpoints but those in `but`."""
    wait_s: float
    but: Sequence[str] = ()


class _Watched:
    """One target: an endpoint of a tenant."""

    __slots__ = ("began", "quick", "slow_since_s", "throttle")

    def __init__(self) -> None:
        self.began: dict[object, float] = {}
        """Calls under way, the oldest first."""
        self.quick = False
        self.slow_since_s: float | None = None
        self.throttle = Throttle()

    def is_slow(self, now_s: float) -> bool:
        """Known to be: a call ended late, or is late."""
        if self.began and now_s - next(iter(self.began.values())) > SLOW_S:
            self.quick = False
            self.slow_since_s = self.slow_since_s or now_s
        return self.slow_since_s is not None


class _Tenant:
    """Its targets."""

    __slots__ = ("busy", "calls", "endpoints", "full_since_s", "trusted")

    def __init__(self) -> None:
        self.endpoints: dict[str, _Watched] = {}
        """All that are remembered; whoever answered last is last."""
        self.busy: dict[str, _Watched] = {}
        """Those with calls under way."""
        self.calls = 0
        """Under way."""
        self.trusted = False
        """Its last answer was quick: it may have more endpoints than are remembered."""
        self.full_since_s: float | None = None
        """Since when it has had all the slots that it may have."""

    def begin(self, call: object, endpoint: str, *, now_s: float) -> None:
        watched = self.busy[endpoint] = self.endpoints[endpoint]
        watched.began[call] = now_s
        self.calls += 1

    def end(self, call: object, endpoint: str, *, now_s: float) -> float:
        """Returns its seconds."""
        watched = self.endpoints[endpoint]
        took_s = now_s - watched.began.pop(call)
        self.calls -= 1
        if not watched.began:
            del self.busy[endpoint]
        if not self.busy:
            self.full_since_s = None
        return took_s

    def answered(self, endpoint: str) -> None:
        watched = self.endpoints[endpoint] = self.endpoints.pop(endpoint)
        self.trusted = watched.quick

    def wait_s(self, *, free: int, now_s: float) -> float:
        """Seconds until one of its endpoints that is not known to be quick may have a slot; 0 = now."""
        unproven, share = 0, free
        if 2 * self.calls >= free:  # otherwise what is unproven among them is fewer still
            unproven = self.unproven(now_s)
            share = free * TRUSTED_FREE if self.is_trusted(now_s) else free
            if unproven >= max(1, share):
                self.full_since_s = now_s if self.full_since_s is None else self.full_since_s
                return put_off_s(self.full_since_s, now_s=now_s)
        if 2 * unproven < share:  # one call that ended is no sign of more
            self.full_since_s = None
        return 0.0

    def unproven(self, now_s: float) -> int:
        """Calls under way to endpoints that are slow or not known to be quick."""
        return sum(len(one.began) for one in self.busy.values() if one.is_slow(now_s) or not one.quick)

    def is_trusted(self, now_s: float) -> bool:
        return self.trusted and not any(one.is_slow(now_s) for one in self.busy.values())

    def quick(self) -> Sequence[str]:
        return tuple(islice((e for e, watched in reversed(self.endpoints.items()) if watched.quick), MOST_EXCEPTIONS))

    def one_to_forget(self, held: Collection[Target], *, name: str) -> str | None:
        """An old endpoint without a call under way; one that is held back only where there is no other near."""
        oldest = list(islice((known for known, watched in self.endpoints.items() if not watched.began), MOST_LOOKED_AT))
        return next((known for known in oldest if (name, known) not in held), next(iter(oldest), None))


class Shares:
    """Of one account in one process. `shared`: tenants share it."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._busy: dict[str, _Tenant] = {}
        """Those with calls under way."""
        self._held: dict[Target, _Watched] = {}
        """Throttled, or slow when it was last looked at."""
        self._count = 0
        """Of targets that are remembered."""

    def begin(self, call: object, target: Target, *, now_s: float) -> None:
        """A call of this target begins; it ends in `end`."""
        tenant, endpoint = target
        if self._known(target) is None:
            self._remember(target)
        its = self._busy[tenant] = self._tenants[tenant]
        its.begin(call, endpoint, now_s=now_s)

    def end(self, call: object, target: Target, *, now_s: float, answered: bool) -> float:
        """The call has ended; returns its seconds. Not `answered`: it was not made after all, and tells nothing."""
        tenant, endpoint = target
        its = self._tenants[tenant]
        took_s = its.end(call, endpoint, now_s=now_s)
        if not its.calls:
            del self._busy[tenant]
        if answered:
            watched = its.endpoints[endpoint]
            watched.quick = took_s <= SLOW_S
            watched.slow_since_s = None if watched.quick else watched.slow_since_s or now_s
            self._note(target, watched, now_s=now_s)
            its.answered(endpoint)
        return took_s

    def throttled(self, target: Target, stated_s: float, *, now_s: float, took_s: float) -> None:
        """A call of this target was throttled; `stated_s`: the wait that was asked for, 0 where none was."""
        watched = self._tenants[target[0]].endpoints[target[1]]
        watched.throttle.hold(stated_s, now_s=now_s, took_s=took_s)
        self._note(target, watched, now_s=now_s)

    def eased(self, target: Target, *, now_s: float, took_s: float) -> None:
        """A call of this target was taken."""
        self._tenants[target[0]].endpoints[target[1]].throttle.ease(now_s=now_s, took_s=took_s)

    def wait_s(self, target: Target, *, free: int, shared: bool, now_s: float) -> float:
        """Seconds until this target may have one of the `free` slots; 0 = now."""
        its = self._tenants.get(target[0])
        if its is None:
            return 0.0
        watched = its.endpoints.get(target[1])
        if watched is not None:
            if (throttled_s := watched.throttle.wait_s(now_s)) > 0:
                return throttled_s
            if watched.is_slow(now_s):
                self._held[target] = watched
                if _has_its_share(watched, free=free):
                    return put_off_s(watched.slow_since_s, now_s=now_s)
        if not shared or (watched is not None and watched.quick):
            return 0.0
        return its.wait_s(free=free, now_s=now_s)

    def is_quick(self, target: Target) -> bool:
        """Whether its last answer came soon; False also where none has come."""
        watched = self._known(target)
        return watched is not None and watched.quick

    def blocked(self, *, free: int, shared: bool, now_s: float) -> list[Blocked]:
        """All that may have no call now, for a claim to leave it out."""
        found = [
            Blocked(tenant, None, wait_s, its.quick())
            for tenant, its in (self._busy.items() if shared else ())
            if (wait_s := its.wait_s(free=free, now_s=now_s)) > 0
        ]
        for target, watched in list(self._held.items()):
            if len(found) >= MOST_BLOCKED:
                break
            wait_s = watched.throttle.wait_s(now_s)
            if wait_s <= 0 and not (watched.began and watched.is_slow(now_s)):
                del self._held[target]  # it is put back when a call of it is late
            elif wait_s <= 0 and _has_its_share(watched, free=free):
                wait_s = put_off_s(watched.slow_since_s, now_s=now_s)
            if wait_s > 0:
                found.append(Blocked(*target, wait_s))
        return found[:MOST_BLOCKED]

    def most_unproven(self, now_s: float) -> int:
        """Calls under way to targets that are slow or not known to be quick, of the tenant that has most of them; none of a
        tenant that is trusted."""
        return max((its.unproven(now_s) for its in self._busy.values() if not its.is_trusted(now_s)), default=0)

    def _note(self, target: Target, watched: _Watched, *, now_s: float) -> None:
        if watched.slow_since_s is not None or watched.throttle.wait_s(now_s) > 0:
            self._held[target] = watched
        else:
            self._held.pop(target, None)

    def _known(self, target: Target) -> _Watched | None:
        its = self._tenants.get(target[0])
        return None if its is None else its.endpoints.get(target[1])

    def _remember(self, target: Target) -> None:
        """Where too many are known, an old one with nothing on its way is unknown again."""
        tenant, endpoint = target
        if self._count >= MOST_IN_ALL:
            self._forget_idle_tenant()
        its = self._tenants.setdefault(tenant, _Tenant())
        if len(its.endpoints) >= MOST_TARGETS and (gone := its.one_to_forget(self._held, name=tenant)) is not None:
            del its.endpoints[gone]
            self._held.pop((tenant, gone), None)
            self._count -= 1
        its.endpoints[endpoint] = _Watched()
        self._count += 1

    def _forget_idle_tenant(self) -> None:
        tenant = next((known for known in self._tenants if known not in self._busy), None)
        if tenant is None:
            return
        endpoints = self._tenants.pop(tenant).endpoints
        for endpoint in endpoints:
            self._held.pop((tenant, endpoint), None)
        self._count -= len(endpoints)


def _has_its_share(watched: _Watched, *, free: int) -> bool:
    return len(watched.began) >= max(1, free // SLOW_FREE)


def put_off_s(since_s: float | None, *, now_s: float) -> float:
    """How long what finds no place waits: longer, the longer there has been none."""
    lasted_s = 0.0 if since_s is None else now_s - since_s
    return min(max(LEAST_WAIT_S, lasted_s / 2), LONGEST_WAIT_S)
