"""Preferences as JSON, in `preference.choices`: one shape for the API's repository, the plan and the claim."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time, timedelta
from typing import Any

import msgspec

from domain.preferences import UNREADABLE, Cap, CategoryChoice, Preferences
from domain.quiet_hours import QuietHours


class _Category(msgspec.Struct, omit_defaults=True):
    enabled: bool | None = None
    channels: dict[str, bool] = {}


class _Cap(msgspec.Struct):
    most: int
    window_s: int


class _Caps(msgspec.Struct, omit_defaults=True):
    channels: dict[str, _Cap] = {}
    categories: dict[str, _Cap] = {}


class _QuietHours(msgspec.Struct):
    start: time
    end: time


class _Choices(msgspec.Struct, omit_defaults=True):
    """What is at its default is left out."""

    channels: dict[str, bool] = {}
    categories: dict[str, _Category] = {}
    preferred: list[str] = []
    caps: _Caps | None = None
    quiet_hours: _QuietHours | None = None


def encode_preferences(preferences: Preferences) -> dict[str, Any]:
    """The JSON object to store."""
    quiet = preferences.quiet_hours
    caps = _Caps(_caps(preferences.channel_caps), _caps(preferences.category_caps))
    made: dict[str, Any] = msgspec.to_builtins(
        _Choices(
            channels=dict(preferences.channels),
            categories={n: _Category(c.enabled, dict(c.channels)) for n, c in preferences.categories.items()},
            preferred=list(preferences.preferred),
            caps=caps if caps != _Caps() else None,
            quiet_hours=None if quiet is None else _QuietHours(quiet.start, quiet.end),
        )
    )
    return made


def decode_preferences(choices: str | bytes) -> Preferences:
    """What is stored. What this version cannot read permits nothing: it may be an opt-out."""
    try:
        found = msgspec.json.decode(choices, type=_Choices)
    except msgspec.MsgspecError:
        return UNREADABLE
    quiet, caps = found.quiet_hours, found.caps or _Caps()
    return Preferences(
        found.channels,
        {name: CategoryChoice(choice.enabled, choice.channels) for name, choice in found.categories.items()},
        tuple(found.preferred),
        _limits(caps.channels),
        _limits(caps.categories),
        None if quiet is None else QuietHours(quiet.start, quiet.end),
    )


def _caps(caps: Mapping[str, Cap]) -> dict[str, _Cap]:
    return {name: _Cap(cap.most, int(cap.window.total_seconds())) for name, cap in caps.items()}


def _limits(caps: Mapping[str, _Cap]) -> dict[str, Cap]:
    return {name: Cap(cap.most, timedelta(seconds=cap.window_s)) for name, cap in caps.items()}
