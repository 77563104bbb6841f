"""Digests and repeats: what is collected into one message, and what is not sent a second time.

A slot is what notifications must have in common, as a hash that names nobody. The first of a slot opens it, and what
becomes of each that follows is decided here, under the slot's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

MOST_WINDOW = timedelta(days=7)
LEAST_WINDOW = timedelta(seconds=1)
MOST_ITEMS = 100
"""Items that a template gets, the oldest; `count` says how many there are."""
MOST_ITEM_BYTES = 1_000_000
"""Of all data that a template gets: where it is more, the later items are left out."""
ITEMS, COUNT = "items", "count"
GIVEN = frozenset({ITEMS, COUNT})
"""Variables that a digest gives to its template by itself."""


class First(StrEnum):
    """What becomes of the first of a slot."""

    COLLECT = "collect"
    """It waits for what follows."""
    AT_ONCE = "at_once"
    """It is sent; what follows within the window is collected."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A wish to be collected."""

    slot: bytes
    window: timedelta
    first: First = First.COLLECT


@dataclass(frozen=True, slots=True)
class Dedupe:
    """A wish not to be sent where the same was sent within the window."""

    slot: bytes
    window: timedelta


@dataclass(frozen=True, slots=True)
class Slot:
    """A digest's slot as it stands, its lock held."""

    carrier: UUID | None = None
    """The notification that will carry what is collected; None where nothing waits."""
    until: datetime | None = None
    """When its window ends, or has ended."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a notification goes."""

    digest: UUID
    """The carrier, which may be itself."""
    due_at: datetime | None
    """When its digest is due; None = at once."""
    slot: Slot
    """The slot after it."""


def placed(notification_id: UUID, digest: Digest, slot: Slot, *, now: datetime) -> Placed:
    """An open digest takes it, however late: it closes when its carrier is planned, and not by a clock."""
    if slot.carrier is not None:
        return Placed(slot.carrier, slot.until, slot)
    if slot.until is not None and slot.until > now:  # the first was sent at once, and this is the first that repeats it
        return Placed(notification_id, slot.until, Slot(notification_id, slot.until))
    until = now + digest.window
    if digest.first is First.AT_ONCE:
        return Placed(notification_id, None, Slot(None, until))
    return Placed(notification_id, until, Slot(notification_id, until))
