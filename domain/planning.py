"""The plan: from what was asked and who the recipient is to the steps that will be tried, each drop with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.channels import Channel
from domain.lanes import Lane
from domain.preferences import NO_PREFERENCES, Preferences, Wishes
from domain.states import Reason, Status, Strategy
from domain.windows import Because, Hours, PutOff, Window, Zones

DEFAULT_CHANNELS: tuple[Channel, ...] = (Channel.INAPP, Channel.EMAIL)
"""Where neither the notification nor its category names channels."""
EXPIRED_WAITING: Mapping[Because, Reason] = {
    Because.QUIET_HOURS: Reason.EXPIRED_IN_QUIET_HOURS,
    Because.WINDOW: Reason.EXPIRED_OUTSIDE_WINDOW,
}


@dataclass(frozen=True, slots=True)
class Person:
    """A user as the plan sees them."""

    user_id: str
    active: bool
    locale: str
    addresses: Mapping[Channel, str]
    """The address to use on each channel (primary first). In-app needs none: it is the user's id."""
    time_zone: str = ""
    """IANA name; "" where none is known."""
    preferences: Preferences = NO_PREFERENCES


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, as far as the plan needs it."""

    channels: Sequence[Channel]
    strategy: Strategy
    expires_at: datetime
    user_id: str | None = None
    direct: tuple[Channel, str] | None = None
    """(channel, address) where no user is named."""
    category: str = ""
    lane: Lane = Lane.MEDIUM
    window: Window | None = None
    """The hours in which it may be sent, in the low lane."""
    tenant_zone: str = ""
    """IANA name; read where there is a window."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    n: int
    channel: Channel
    address: str


@dataclass(frozen=True, slots=True)
class Drop:
    """A channel that was asked for and is not tried."""

    n: int
    channel: Channel
    status: Status
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    open: tuple[PlannedStep, ...]
    """Steps to try now."""
    chain: tuple[PlannedStep, ...] = ()
    """Steps that follow, one after another, when the open one fails (strategies fallback and preferred)."""
    drops: tuple[Drop, ...] = ()
    locale: str = ""
    put_off: PutOff | None = None
    """When the open steps are due, and why not before; None: now."""

    @property
    def expires(self) -> bool:
        """Nothing of it is tried, because its time has run out, or will before it may go."""
        return not self.open and any(drop.status is Status.EXPIRED for drop in self.drops)


def plan(
    request: Request,
    *,
    person: Person | None,
    now: datetime,
    served: frozenset[Channel],
    mandatory: bool = False,
) -> Plan:
    """The steps of one notification. `served` are the channels that have a provider account. What is `mandatory` by its
    category ends by no preference of the person; frequency caps are judged later (`domain.caps`)."""
    channels = _channels(request)
    if request.expires_at <= now:
        return _dropped(channels, Status.EXPIRED, Reason.EXPIRED_BEFORE_PLAN)
    if request.user_id is not None and (person is None or not person.active):
        return _dropped(channels, Status.SUPPRESSED, Reason.RECIPIENT_GONE)
    wishes = wishes_of(request, person=person, mandatory=mandatory)
    steps: list[PlannedStep] = []
    drops: list[Drop] = []
    for n, channel in enumerate(channels, start=1):
        address = _address(request, channel, person=person)
        if not wishes.permit(channel):
            drops.append(Drop(n, channel, Status.SUPPRESSED, Reason.OPTED_OUT))
        elif channel not in served:
            drops.append(Drop(n, channel, Status.FAILED, Reason.NO_ACCOUNT))
        elif address is None:
            drops.append(Drop(n, channel, Status.SUPPRESSED, Reason.NO_ADDRESS))
        else:
            steps.append(PlannedStep(n, channel, address))
    zones = Zones(person.time_zone if person else "", request.tenant_zone)
    put_off = Hours(request.lane, request.expires_at, wishes, zones, request.window).put_off(now)
    if put_off is not None and put_off.until >= request.expires_at:
        drops += [Drop(s.n, s.channel, Status.EXPIRED, EXPIRED_WAITING[put_off.because]) for s in steps]
        steps = []
    if request.strategy is Strategy.PREFERRED:
        order = wishes.preferences.ordered(channels)
        steps.sort(key=lambda step: order.index(step.channel))
    locale = person.locale if person else ""
    return arranged(steps, drops, strategy=request.strategy, locale=locale, put_off=put_off if steps else None)


def wishes_of(request: Request, *, person: Person | None, mandatory: bool) -> Wishes:
    """The preferences that apply; an address without a person has none."""
    return Wishes(person.preferences if person else NO_PREFERENCES, request.category, mandatory)


def arranged(
    steps: Sequence[PlannedStep],
    drops: Sequence[Drop],
    *,
    strategy: Strategy,
    locale: str,
    put_off: PutOff | None,
) -> Plan:
    """The plan that tries these steps, all at once or one after another; drops in the order of their places."""
    first = len(steps) if strategy is Strategy.ALL else 1
    ordered = tuple(sorted(drops, key=lambda drop: drop.n))
    return Plan(tuple(steps[:first]), tuple(steps[first:]), ordered, locale, put_off)


def _channels(request: Request) -> Sequence[Channel]:
    if request.direct is not None and not request.channels:
        return (request.direct[0],)
    return request.channels or DEFAULT_CHANNELS


def _address(request: Request, channel: Channel, *, person: Person | None) -> str | None:
    if request.direct is not None:
        return request.direct[1] if request.direct[0] is channel else None
    if channel is Channel.INAPP:
        return request.user_id
    return person.addresses.get(channel) if person else None


def _dropped(channels: Sequence[Channel], status: Status, reason: Reason) -> Plan:
    return Plan((), (), tuple(Drop(n, c, status, reason) for n, c in enumerate(channels, start=1)))
