"""Quiet hours: by the wall clock of the person's zone, past midnight and past changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.quiet_hours import QuietHours

ZONES = ["", "UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "No/Where"]
minutes = st.integers(0, 24 * 60 - 1).map(lambda m: time(m // 60, m % 60))
hours = st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: QuietHours(*pair))
moments = st.integers(0, 3_000_000).map(lambda m: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=m))
around_changes = st.sampled_from(
    ["2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00", "2026-10-03T15:30", "2026-04-04T15:00"]
).flatmap(
    lambda text: st.integers(-24 * 60, 24 * 60).map(
        lambda m: datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(minutes=m)
    )
)  # fmt: skip


def shown(at: datetime, zone: str) -> time:
    """The wall clock there."""
    return at.astimezone(ZoneInfo(zone) if zone in ZONES[1:-1] else UTC).time()


def inside(quiet: QuietHours, wall: time) -> bool:
    """As a person would say it."""
    if quiet.start < quiet.end:
        return quiet.start <= wall < quiet.end
    return not quiet.end <= wall < quiet.start


@given(hours, moments | around_changes, st.sampled_from(ZONES))
def test_they_hold_by_the_wall_clock_and_end_at_the_first_moment_outside(
    quiet: QuietHours, now: datetime, zone: str
) -> None:  # fmt: skip
    """Catches: an end that is a day, or the change of a clock, too late; one at which they still hold."""
    until = quiet.until(now, zone=zone)
    assert (until is not None) == inside(quiet, shown(now, zone))
    if until is None:
        return
    assert until > now
    assert not inside(quiet, shown(until, zone))
    before = until - timedelta(minutes=1)
    while before > now:
        assert inside(quiet, shown(before, zone))
        before -= timedelta(minutes=1)


@pytest.mark.parametrize(
    ("start", "end", "zone", "now", "until"),
    [
        ("22:00", "08:00", "Asia/Shanghai", "2026-03-01T15:00", "2026-03-02T00:00"),  # 23:00 there, across midnight
        ("22:00", "08:00", "Asia/Shanghai", "2026-03-01T23:59", "2026-03-02T00:00"),  # 07:59 there
        ("22:00", "08:00", "Asia/Shanghai", "2026-03-02T00:00", None),
        ("12:00", "14:00", "", "2026-03-01T13:30", "2026-03-01T14:00"),
        ("22:00", "08:00", "Europe/Berlin", "2026-03-28T22:00", "2026-03-29T06:00"),  # a night of nine hours
        ("22:00", "08:00", "Europe/Berlin", "2026-10-24T21:00", "2026-10-25T07:00"),  # one of eleven
        ("22:00", "02:30", "Europe/Berlin", "2026-03-29T00:30", "2026-03-29T01:00"),  # the clock passes over 02:30
        ("22:00", "02:30", "Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:30"),  # 02:30 comes twice
        ("22:00", "02:30", "Europe/Berlin", "2026-10-25T01:10", "2026-10-25T01:30"),  # 02:10 for the second time
    ],
)
def test_nights(start: str, end: str, zone: str, now: str, until: str | None) -> None:
    quiet = QuietHours(time.fromisoformat(start), time.fromisoformat(end))
    expected = None if until is None else datetime.fromisoformat(until).replace(tzinfo=UTC)
    assert quiet.until(datetime.fromisoformat(now).replace(tzinfo=UTC), zone=zone) == expected


def test_quiet_hours_that_end_in_a_time_that_is_never_shown_and_begin_right_after() -> None:
    """They then last to the next day's end, and not for ever."""
    quiet = QuietHours(time(3, 0), time(2, 59))  # all but one minute, which the clock leaves out on this day
    assert quiet.until(datetime(2026, 3, 29, 0, 30, tzinfo=UTC), zone="Europe/Berlin") == datetime(
        2026, 3, 30, 0, 59, tzinfo=UTC
    )  # fmt: skip
