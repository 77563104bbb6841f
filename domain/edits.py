"""What an edit of an accepted notification may still do: the fences that stop it, and what becomes of its life."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.lanes import POLICIES, Lane


class Fence(StrEnum):
    """Why nothing can be edited any more."""

    PLANNED = "planned"
    """Its plan is under way: one step was handed over, others wait for a retry or their turn."""
    HANDING_OVER = "handing_over"
    """A step is being handed over at this moment."""
    FINISHED = "finished"
    """It has ended."""
    CANCELLED = "cancelled"
    """It was cancelled, and only waits for what was in flight then."""


def fence(*, final: bool, cancelled: bool, handing_over: bool, handed_over: bool) -> Fence | None:
    """The fence that was reached; None while nothing was ever handed over. A plan by itself is no fence."""
    if final:
        return Fence.FINISHED
    if handing_over:
        return Fence.HANDING_OVER
    if cancelled:
        return Fence.CANCELLED
    return Fence.PLANNED if handed_over else None


GIVEN = "given"
"""Name in a notification's stored options of a `Given`."""


@dataclass(frozen=True, slots=True)
class Given:
    """What it was given, where that no longer shows in what is stored: an edit or a hurry has changed it since."""

    lane: str | None = None
    """By its label: the lane that it was hurried out of."""
    life: timedelta | None = None
    category: bool = False
    """By the template that its content has replaced."""
    any_hour: bool = False
    """In the low lane: no window was asked for, and not only none named."""


@dataclass(frozen=True, slots=True)
class Times:
    """When a notification is due and how long it lives, as it is stored."""

    lane: Lane
    accepted_at: datetime
    send_at: datetime | None
    expires_at: datetime
    expires_in: timedelta | None
    """As it was posted; None where it gave a moment or nothing."""
    given: Given = Given()
    collected: bool = False
    """`send_at` is the end of its digest's window, and was not posted."""

    @property
    def posted_lane(self) -> Lane:
        """The lane that it was posted or edited into: a hurry moves it out of that."""
        return self.lane if self.given.lane is None else Lane.of(self.given.lane)

    @property
    def is_default(self) -> bool:
        """Its life is its lane's own."""
        return self.life == POLICIES[self.posted_lane].expires_in

    @property
    def life(self) -> timedelta:
        """What it was given to live: as a span, as a moment, or by its lane."""
        if self.expires_in is not None:
            return self.expires_in
        if self.given.life is not None:
            return self.given.life
        life = self.expires_at - max(self.send_at or self.accepted_at, self.accepted_at)
        if self.collected and life != POLICIES[self.posted_lane].expires_in:
            return self.expires_at - self.accepted_at
        return life


@dataclass(frozen=True, slots=True)
class Life:
    """Exactly one of the two: a moment, or a span that counts from `send_at` or from the edit, whichever is later."""

    expires_at: datetime | None = None
    expires_in: timedelta | None = None


def life(times: Times, *, lane: Lane, changed: Collection[str]) -> Life:
    """The life of a notification whose edit names neither `expires_at` nor `expires_in`.

    A span that was posted moves along with `send_at`, a lane's default with `send_at` and the lane; a moment stays.
    """
    posted = times.expires_in
    if posted is not None:
        return Life(expires_in=posted) if "send_at" in changed else Life(expires_at=times.expires_at)
    if times.is_default and lane is not times.lane:
        return Life(expires_in=POLICIES[lane].expires_in)
    if times.is_default and "send_at" in changed:
        return Life(expires_in=times.life)
    return Life(expires_at=times.expires_at)
