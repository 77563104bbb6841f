"""Sending windows: the hours of the day in which what is in the low lane may go out, and when what must wait is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum

from domain.lanes import Lane
from domain.preferences import Wishes
from domain.quiet_hours import QuietHours

RECIPIENT = "recipient"
"""The clock of the user's time zone; where there is none, and for an address, the tenant's."""
TENANT = "tenant"
"""The clock of the tenant's time zone, UTC where there is none."""
MOST_TURNS = 16
"""How many windows and quiet hours are looked at for a moment that suits both: eight days of them, where they share
none."""


@dataclass(frozen=True, slots=True)
class Zones:
    """IANA names; "" where none is known."""

    recipient: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to, without, `end`; past midnight where `end` is the earlier one. Whole minutes, never equal."""

    start: time
    end: time
    zone: str = RECIPIENT
    """`RECIPIENT`, `TENANT` or an IANA name."""

    def opens(self, now: datetime, zones: Zones) -> datetime | None:
        """The first moment after `now` at which it is open; None when it is open at `now`."""
        return QuietHours(self.end, self.start).until(now, zone=self._place(zones))

    def _place(self, zones: Zones) -> str:
        if self.zone == RECIPIENT:
            return zones.recipient or zones.tenant
        return zones.tenant if self.zone == TENANT else self.zone


class Because(StrEnum):
    """Why something waits, though its channel and its recipient are there."""

    QUIET_HOURS = "quiet_hours"
    """The person's own."""
    WINDOW = "window"
    """The sender's hours for the low lane."""


@dataclass(frozen=True, slots=True)
class PutOff:
    until: datetime
    because: Because
    """What holds longest, where both hold."""


@dataclass(frozen=True, slots=True)
class Hours:
    """All that says at which hours one notification may be handed over."""

    lane: Lane
    expires_at: datetime
    wishes: Wishes
    zones: Zones
    window: Window | None = None
    """Holds in the low lane alone, which a notification that was hurried has left."""

    def put_off(self, now: datetime) -> PutOff | None:
        """Until when it waits, which may be past its end; None: nothing keeps it.

        Where window and quiet hours share no moment within days, it is the last one looked at: it is looked at again then.
        """
        found: PutOff | None = None
        for _ in range(MOST_TURNS):
            at = found.until if found else now
            following = self._closed(at) or self._quiet(at)
            if following is None:
                break
            found = following
            if found.until >= self.expires_at:
                break
        return found

    def _closed(self, at: datetime) -> PutOff | None:
        opens = self.window.opens(at, self.zones) if self.window and self.lane is Lane.LOW else None
        return None if opens is None else PutOff(opens, Because.WINDOW)

    def _quiet(self, at: datetime) -> PutOff | None:
        until = self.wishes.quiet_until(at, zone=self.zones.recipient, lane=self.lane, expires_at=self.expires_at)
        return None if until is None else PutOff(until, Because.QUIET_HOURS)
