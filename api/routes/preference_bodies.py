"""Preferences as the API takes them: the whole, or a change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictInt, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.schemas import Body, Flag
from domain.addresses import has_control
from domain.channels import Channel
from domain.errors import Invalid
from domain.preferences import (
    LONGEST_WINDOW,
    MOST_CATEGORIES,
    MOST_IN_CAP,
    SHORTEST_WINDOW,
    Cap,
    CategoryChoice,
    Preferences,
)
from domain.quiet_hours import QuietHours

T = TypeVar("T")
EXAMPLE: dict[str, Any] = {
    "channels": {"email": True, "webhook": False},
    "categories": {"marketing": {"enabled": False, "channels": {"email": True}}},
    "preferred": ["inapp", "email"],
    "caps": {"channels": {"email": {"most": 5, "per": "PT24H"}}, "categories": {"marketing": {"most": 1, "per": "P7D"}}},
    "quiet_hours": {"from": "22:00", "to": "08:00"},
}
CHANGE_EXAMPLE: dict[str, Any] = {
    "channels": {"webhook": None},
    "categories": {"orders": {"channels": {"email": False}}},
    "quiet_hours": None,
}
_DURATION = re.compile(r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _window(value: Any) -> timedelta:
    if isinstance(value, str) and len(value) <= 32 and _DURATION.fullmatch(value):
        numbers = {unit: int(number) for number, unit in re.findall(r"(\d{1,9})([DHMS])", value)}
        window = timedelta(
            days=numbers.get("D", 0), hours=numbers.get("H", 0), minutes=numbers.get("M", 0), seconds=numbers.get("S", 0)
        )
    elif isinstance(value, int) and not isinstance(value, bool):
        window = timedelta(seconds=min(max(value, 0), 10**9))
    else:
        raise PydanticCustomError("format", "A window is an ISO 8601 duration, as in PT24H or P7D, or a number of seconds.")
    if not SHORTEST_WINDOW <= window <= LONGEST_WINDOW:
        raise PydanticCustomError("range", "A window is at least PT1M and at most P31D long.")
    return window


def _clock(value: Any) -> time:
    if isinstance(value, time):
        return value
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise PydanticCustomError("format", "A time of the day is HH:MM, from 00:00 to 23:59.")
    return time.fromisoformat(value)


def _category(value: str) -> str:
    if has_control(value):
        raise PydanticCustomError("control_character", "A category holds no control characters.")
    return value


def _once_each(channels: list[Channel]) -> list[Channel]:
    if len(set(channels)) != len(channels):
        raise PydanticCustomError("unique", "Each channel is named once.")
    return channels


CategoryName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_category)]
Window = Annotated[
    timedelta,
    BeforeValidator(_window),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "duration"}, {"type": "integer"}]}, mode="validation"),
]
Clock = Annotated[
    time,
    BeforeValidator(_clock),
    WithJsonSchema({"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$"}),
]
Order = Annotated[list[Channel], Field(max_length=16), AfterValidator(_once_each)]


class CapIn(Body):
    """At most `most` in any window of this length; 0 lets none through."""

    most: Annotated[StrictInt, Field(ge=0, le=MOST_IN_CAP)]
    per: Window = Field(description="PT1M to P31D, or seconds; the window rolls.")

    def made(self) -> Cap:
        return Cap(self.most, self.per)


class CategoryIn(Body):
    """`enabled` for the whole category, `channels` for single channels of it; what is left out says nothing."""

    enabled: Flag | None = None
    channels: dict[Channel, Flag] = Field(default_factory=dict)


class CapsIn(Body):
    """Frequency caps: of a channel over what is sent on it, of a category over its notifications."""

    channels: dict[Channel, CapIn] = Field(default_factory=dict)
    categories: dict[CategoryName, CapIn] = Field(default_factory=dict, max_length=MOST_CATEGORIES)


class QuietHoursIn(Body):
    """By the clock of the user's `time_zone` (UTC where there is none); past midnight where `to` is the earlier one."""

    start: Clock = Field(alias="from")
    end: Clock = Field(alias="to")

    def check(self) -> None:
        """Raises Invalid."""
        if self.start == self.end:
            raise Invalid.field("/quiet_hours/to", "range", "Quiet hours end at another time than they begin.")


class PreferencesIn(Body):
    """The whole of a user's preferences; what is left out is at its default, which permits everything."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    channels: dict[Channel, Flag] = Field(default_factory=dict)
    categories: dict[CategoryName, CategoryIn] = Field(default_factory=dict, max_length=MOST_CATEGORIES)
    preferred: Order = Field(default_factory=list, description="The order in which strategy `preferred` tries channels.")
    caps: CapsIn = Field(default_factory=CapsIn)
    quiet_hours: QuietHoursIn | None = None

    def made(self) -> Preferences:
        """Raises Invalid."""
        return Preferences(
            channels=_named(self.channels),
            categories=_saying({n: CategoryChoice(c.enabled, _named(c.channels)) for n, c in self.categories.items()}),
            preferred=self.preferred,
            channel_caps={name: cap.made() for name, cap in self.caps.channels.items()},
            category_caps={name: cap.made() for name, cap in self.caps.categories.items()},
            quiet_hours=_quiet(self.quiet_hours),
        )


class CategoryPatch(Body):
    """Changes of what is said about one category."""

    enabled: Flag | None = None
    channels: dict[Channel, Flag | None] | None = None

    def applied(self, stored: CategoryChoice) -> CategoryChoice:
        given = self.model_fields_set
        return CategoryChoice(
            self.enabled if "enabled" in given else stored.enabled,
            _merged(stored.channels, self.channels) if "channels" in given else stored.channels,
        )


class CapsPatch(Body):
    """Changes of caps, each replaced as a whole."""

    channels: dict[Channel, CapIn | None] | None = None
    categories: dict[CategoryName, CapIn | None] | None = Field(default=None, max_length=MOST_CATEGORIES)


class PreferencesPatch(Body):
    """What is left out stays; null takes back to the default (a JSON merge patch, RFC 7396). `preferred`, a cap and
    `quiet_hours` are replaced as a whole."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [CHANGE_EXAMPLE]})

    channels: dict[Channel, Flag | None] | None = None
    categories: dict[CategoryName, CategoryPatch | None] | None = Field(default=None, max_length=MOST_CATEGORIES)
    preferred: Order | None = None
    caps: CapsPatch | None = None
    quiet_hours: QuietHoursIn | None = None

    def applied(self, stored: Preferences) -> Preferences:
        """Raises Invalid."""
        given = self.model_fields_set
        caps = self.caps or CapsPatch(channels=None, categories=None)
        capped = caps.model_fields_set if "caps" in given else set()
        made = Preferences(
            channels=_merged(stored.channels, self.channels) if "channels" in given else stored.channels,
            categories=self._categories(stored.categories) if "categories" in given else stored.categories,
            preferred=self.preferred or () if "preferred" in given else stored.preferred,
            channel_caps=_merged(stored.channel_caps, _caps(caps.channels))
            if "channels" in capped
            else stored.channel_caps,
            category_caps=(
                _merged(stored.category_caps, _caps(caps.categories)) if "categories" in capped else stored.category_caps
            ),
            quiet_hours=_quiet(self.quiet_hours) if "quiet_hours" in given else stored.quiet_hours,
        )
        for pointer, names in (("/categories", made.categories), ("/caps/categories", made.category_caps)):
            if len(names) > MOST_CATEGORIES:
                message = f"With those that are stored, a user's preferences name at most {MOST_CATEGORIES} categories."
                raise Invalid.field(pointer, "too_long", message)
        return made

    def _categories(self, stored: Mapping[str, CategoryChoice]) -> Mapping[str, CategoryChoice]:
        if self.categories is None:
            return {}
        changed: dict[str, CategoryChoice | None] = {
            name: None if change is None else change.applied(stored.get(name, CategoryChoice()))
            for name, change in self.categories.items()
        }
        return _saying(_merged(stored, changed))


def _merged(stored: Mapping[str, T], changes: Mapping[Any, T | None] | None) -> dict[str, T]:
    """`changes` over `stored`; what is None goes, and all of it where there are no changes to name."""
    both = {} if changes is None else {**stored, **_named(changes)}
    return {name: value for name, value in both.items() if value is not None}


def _named(by_channel: Mapping[Any, T]) -> dict[str, T]:
    """With plain names for keys."""
    return {str(name): value for name, value in by_channel.items()}


def _saying(choices: Mapping[str, CategoryChoice]) -> dict[str, CategoryChoice]:
    """Without those that say nothing."""
    return {name: choice for name, choice in choices.items() if choice != CategoryChoice()}


def _caps(given: Mapping[Any, CapIn | None] | None) -> dict[str, Cap | None] | None:
    return None if given is None else {name: None if cap is None else cap.made() for name, cap in given.items()}


def _quiet(given: QuietHoursIn | None) -> QuietHours | None:
    """Raises Invalid."""
    if given is None:
        return None
    given.check()
    return QuietHours(given.start, given.end)
