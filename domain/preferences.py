"""A person's preferences: what may be sent to them on which channel, in which order, how often, and when not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.channels import Channel
from domain.lanes import Lane
from domain.quiet_hours import QuietHours

MOST_CATEGORIES = 100
"""Categories that one person's choices, and caps, may name: they are read with every notification."""
MOST_IN_CAP = 1000
SHORTEST_WINDOW = timedelta(minutes=1)
LONGEST_WINDOW = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Cap:
    """At most so many in any window of this length; 0 lets none through."""

    most: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class CategoryChoice:
    """What a person wants of one category; None and what is missing say nothing."""

    enabled: bool | None = None
    channels: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a person has chosen; nothing chosen permits everything. Channels are names, of which some may be unknown here
    (after a roll-back)."""

    channels: Mapping[str, bool] = field(default_factory=dict)
    categories: Mapping[str, CategoryChoice] = field(default_factory=dict)
    preferred: Sequence[str] = ()
    """Channels in the order in which strategy `preferred` tries them; others follow as they were asked for."""
    channel_caps: Mapping[str, Cap] = field(default_factory=dict)
    """Count what is sent on the channel."""
    category_caps: Mapping[str, Cap] = field(default_factory=dict)
    """Count notifications, on however many channels."""
    quiet_hours: QuietHours | None = None
    readable: bool = True
    """False: what is stored cannot be read. Then nothing is known to be permitted."""

    def permits(self, channel: Channel, *, category: str) -> bool:
        """The most specific choice wins: category and channel together, then each by itself. Of these two, which are
        equally specific, a no wins over a yes."""
        if not self.readable:
            return False
        choice = self.categories.get(category, CategoryChoice())
        both = choice.channels.get(channel)
        if both is not None:
            return both
        return choice.enabled is not False and self.channels.get(channel) is not False

    def ordered(self, channels: Iterable[Channel]) -> list[Channel]:
        """These channels, preferred ones first."""
        asked = list(channels)
        first = [channel for name in self.preferred for channel in asked if channel == name]
        return first + [channel for channel in asked if channel not in first]


@dataclass(frozen=True, slots=True)
class Limits:
    """The caps that one notification is under."""

    category: Cap | None = None
    channels: Mapping[Channel, Cap] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.category is not None or bool(self.channels)


@dataclass(frozen=True, slots=True)
class Wishes:
    """A person's preferences as they apply to one notification. What is `mandatory` by its category ends by none of them:
    it waits for the end of quiet hours where there is time for it."""

    preferences: Preferences
    category: str
    mandatory: bool = False

    def permit(self, channel: Channel) -> bool:
        return self.mandatory or self.preferences.permits(channel, category=self.category)

    def quiet_until(self, now: datetime, *, zone: str, lane: Lane, expires_at: datetime) -> datetime | None:
        """When quiet hours that hold now end, whether or not that is before `expires_at`; None where it is not waited
        for. The high lane never does."""
        quiet = self.preferences.quiet_hours
        if quiet is None or lane is Lane.HIGH:
            return None
        until = quiet.until(now, zone=zone)
        if until is None or (self.mandatory and until >= expires_at):
            return None
        return until

    def limits(self, channels: Iterable[Channel]) -> Limits:
        """The frequency caps that it is under on these channels."""
        if self.mandatory:
            return Limits()
        caps = self.preferences.channel_caps
        mine = {channel: caps[channel] for channel in channels if channel in caps}
        return Limits(self.preferences.category_caps.get(self.category), mine)


NO_PREFERENCES = Preferences()
UNREADABLE = Preferences(readable=False)
