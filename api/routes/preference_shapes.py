"""Preferences, and figures over them, as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.routes.preference_bodies import EXAMPLE
from domain.preferences import Cap
from infra.postgres.users.preferences import Figure, Figures, StoredPreferences

_SHOWN: dict[str, Any] = {
    **EXAMPLE,
    "caps": {"channels": {"email": {"most": 5, "per": "P1D"}}, "categories": {"marketing": {"most": 1, "per": "P7D"}}},
    "app": "shop",
    "updated_at": "2026-12-01T01:00:00Z",
}
_FIGURE: dict[str, Any] = {"opted_in": 12, "opted_out": 340, "capped": 25, "per_day": 1.5}
_EXAMPLE: dict[str, Any] = {
    "users": 4100,
    "quiet_hours": 900,
    "preferred": 310,
    "channels": [{"channel": "email", **_FIGURE}],
    "categories": [{"category": "marketing", **_FIGURE}],
    "pairs": [{"category": "marketing", "channel": "email", **_FIGURE, "capped": 0, "per_day": None}],
    "apps": [{"app": "shop", **_FIGURE}],
}


class CapOut(BaseModel):
    most: int
    per: timedelta


class CategoryOut(BaseModel):
    enabled: bool | None
    channels: dict[str, bool]


class CapsOut(BaseModel):
    channels: dict[str, CapOut]
    categories: dict[str, CapOut]


class QuietHoursOut(BaseModel):
    start: str = Field(serialization_alias="from")
    end: str = Field(serialization_alias="to")


class PreferencesOut(BaseModel):
    """A user's preferences. `app`: whose key recorded the last change; null with `updated_at`: nothing was ever chosen."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    channels: dict[str, bool]
    categories: dict[str, CategoryOut]
    preferred: list[str]
    caps: CapsOut
    quiet_hours: QuietHoursOut | None
    app: str | None
    updated_at: datetime | None

    @classmethod
    def of(cls, stored: StoredPreferences) -> PreferencesOut:
        found = stored.preferences
        quiet = found.quiet_hours
        return cls(
            channels=dict(found.channels),
            categories={n: CategoryOut(enabled=c.enabled, channels=dict(c.channels)) for n, c in found.categories.items()},
            preferred=list(found.preferred),
            caps=CapsOut(channels=_shown_caps(found.channel_caps), categories=_shown_caps(found.category_caps)),
            quiet_hours=None if quiet is None else QuietHoursOut(start=f"{quiet.start:%H:%M}", end=f"{quiet.end:%H:%M}"),
            app=stored.app,
            updated_at=stored.updated_at,
        )


class Said(BaseModel):
    """Users who said yes, no, or set a frequency cap; `per_day` is the average of these caps."""

    opted_in: int
    opted_out: int
    capped: int
    per_day: float | None = Field(description="Each cap as so many a day; null where there is none.")


class ChannelFigure(Said):
    channel: str


class CategoryFigure(Said):
    category: str


class PairFigure(Said):
    category: str
    channel: str


class AppFigure(Said):
    """Of the users whose last change this app recorded: who said so about anything."""

    app: str


class PreferenceStats(BaseModel):
    """Figures over the users who have chosen anything. What was said of a channel, of a category, and of both together is
    counted apart. Each list names the 500 with the most users."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    users: int
    quiet_hours: int = Field(description="Users with quiet hours.")
    preferred: int = Field(description="Users with an order of channels.")
    channels: list[ChannelFigure]
    categories: list[CategoryFigure]
    pairs: list[PairFigure]
    apps: list[AppFigure]

    @classmethod
    def of(cls, found: Figures) -> PreferenceStats:
        return cls(
            users=found.users,
            quiet_hours=found.quiet_hours,
            preferred=found.preferred,
            channels=[ChannelFigure(channel=f.channel, **_said(f)) for f in found.of if f.channel and not f.category],
            categories=[CategoryFigure(category=f.category, **_said(f)) for f in found.of if f.category and not f.channel],
            pairs=[
                PairFigure(category=f.category, channel=f.channel, **_said(f)) for f in found.of if f.category and f.channel
            ],
            apps=[AppFigure(app=f.app, **_said(f)) for f in found.of if f.app],
        )


def _said(figure: Figure) -> dict[str, Any]:
    return {
        "opted_in": figure.opted_in, "opted_out": figure.opted_out, "capped": figure.capped,
        "per_day": None if figure.per_day is None else round(figure.per_day, 3),
    }  # fmt: skip


def _shown_caps(caps: Mapping[str, Cap]) -> dict[str, CapOut]:
    return {name: CapOut(most=cap.most, per=cap.window) for name, cap in caps.items()}
