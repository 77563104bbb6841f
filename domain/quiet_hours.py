"""Quiet hours: from one time of the day to another, by the wall clock of the person's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_LONGEST = timedelta(days=3)
"""Longer than any quiet hours last, however the clock is put forward in between."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` up to, without, `end`; past midnight where `end` is the earlier one. Whole minutes, never equal."""

    start: time
    end: time

    def until(self, now: datetime, *, zone: str) -> datetime | None:
        """The first moment after `now` at which they do not hold; None when they do not hold at `now`.

        A wall clock that is put forward over their end ends them in that moment. One that is put back after their end
        repeats what is left of them.
        """
        place = _place(zone)
        if not self._hold(now, place):
            return None
        return self._exact_end(now, place) or self._searched_end(now, place)

    def _hold(self, at: datetime, place: tzinfo) -> bool:
        local = at.astimezone(place).time()
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    def _exact_end(self, now: datetime, place: tzinfo) -> datetime | None:
        """When the wall clock next shows `end`; None where it passes over that time."""
        local = now.astimezone(place)
        day = local.date() if local.time() < self.end else local.date() + timedelta(days=1)
        wall = datetime.combine(day, self.end)
        for fold in (0, 1):
            at = wall.replace(tzinfo=place, fold=fold).astimezone(UTC)
            if at > now and at.astimezone(place).replace(tzinfo=None) == wall:
                return at
        return None

    def _searched_end(self, now: datetime, place: tzinfo) -> datetime | None:
        """Looks minute by minute, which happens once a year, where quiet hours end while the clock is put forward."""
        at = now.astimezone(UTC).replace(second=0, microsecond=0)
        while at - now < _LONGEST:
            at += timedelta(minutes=1)
            if not self._hold(at, place):
                return at
        return None  # a clock that never shows a time outside of them


def _place(zone: str) -> tzinfo:
    """UTC where the person has no time zone, or one that this machine's data do not know."""
    try:
        return ZoneInfo(zone) if zone else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
