"""Sending windows: open by the right clock, and together with quiet hours never a moment that either of them forbids."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.channels import Channel
from domain.lanes import Lane
from domain.planning import Person, Request, plan
from domain.preferences import NO_PREFERENCES, Preferences, Wishes
from domain.quiet_hours import QuietHours
from domain.states import Reason, Status, Strategy
from domain.windows import RECIPIENT, TENANT, Because, Hours, PutOff, Window, Zones

NOON = datetime(2026, 3, 2, 4, tzinfo=UTC)  # in Shanghai
EVENING = Window(time(19), time(8))
LONG = timedelta(days=60)
minutes = st.integers(0, 24 * 60 - 1).map(lambda m: time(m // 60, m % 60))
spans = st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1])
ZONES = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
moments = st.integers(0, 3_000_000).map(lambda m: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=m))
around_changes = st.sampled_from(["2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-10-03T15:30"]).flatmap(
    lambda text: st.integers(-24 * 60, 24 * 60).map(
        lambda m: datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(minutes=m)
    )
)


def within(start: time, end: time, at: datetime, zone: str) -> bool:
    """As a person would say it, by the wall clock there."""
    wall = at.astimezone(ZoneInfo(zone)).time()
    return start <= wall < end if start < end else not end <= wall < start


def hours(
    window: Window | None = EVENING,
    quiet: QuietHours | None = None,
    *,
    zones: Zones | None = None,
    lane: Lane = Lane.LOW,
    life: timedelta = LONG,
    now: datetime = NOON,
    mandatory: bool = False,
) -> Hours:
    wishes = Wishes(Preferences(quiet_hours=quiet) if quiet else NO_PREFERENCES, "", mandatory)
    return Hours(lane, now + life, wishes, zones or Zones("Asia/Shanghai"), window)


@given(spans, st.sampled_from(ZONES), moments | around_changes)
def test_it_is_due_at_the_first_moment_at_which_the_window_is_open(
    span: tuple[time, time], zone: str, now: datetime
) -> None:
    """Over midnight and through changes of the clock. Catches: a window that is taken for hours to keep quiet."""
    found = hours(Window(*span, zone), now=now).put_off(now)
    assert (found is None) == within(*span, now, zone)
    if found is None:
        return
    assert found.because is Because.WINDOW
    assert within(*span, found.until, zone)
    before = found.until - timedelta(minutes=1)
    while before > now:
        assert not within(*span, before, zone)
        before -= timedelta(minutes=7)


@given(spans, spans, st.sampled_from(ZONES), st.sampled_from(ZONES), moments | around_changes)
def test_with_quiet_hours_it_is_the_first_moment_that_suits_both(
    span: tuple[time, time], night: tuple[time, time], own: str, person: str, now: datetime
) -> None:
    """In the person's clock and in another. Where there is none within days it is looked at again, and not sent before."""
    found = hours(Window(*span, own), QuietHours(*night), zones=Zones(person), now=now).put_off(now)

    def suits(at: datetime) -> bool:
        return within(*span, at, own) and not within(*night, at, person)

    assert (found is None) == suits(now)
    if found is None:
        return
    assert found.until > now
    if not suits(found.until):
        assert found.until > now + timedelta(days=2), "given up too early"
        return
    before = found.until - timedelta(minutes=1)
    while before > now:
        assert not suits(before)
        before -= timedelta(minutes=7)


@pytest.mark.parametrize(
    ("zone", "zones", "opens"),
    [
        (RECIPIENT, Zones("Asia/Shanghai", "UTC"), "2026-03-02T11:00"),
        (RECIPIENT, Zones("", "Asia/Kolkata"), "2026-03-02T13:30"),  # who has no time zone, and an address
        (RECIPIENT, Zones(), "2026-03-02T19:00"),
        (TENANT, Zones("Asia/Shanghai", "UTC"), "2026-03-02T19:00"),
        (TENANT, Zones("Asia/Shanghai"), "2026-03-02T19:00"),
        ("Asia/Shanghai", Zones("UTC", "UTC"), "2026-03-02T11:00"),
    ],
)
def test_whose_clock_it_goes_by(zone: str, zones: Zones, opens: str) -> None:
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert Window(time(19), time(8), zone).opens(at, zones) == datetime.fromisoformat(opens).replace(tzinfo=UTC)


def test_only_the_low_lane_keeps_to_it() -> None:
    """What was hurried since has left it."""
    opens = PutOff(datetime(2026, 3, 2, 11, tzinfo=UTC), Because.WINDOW)
    assert [hours(lane=lane).put_off(NOON) for lane in Lane] == [None, None, opens]


def test_what_holds_to_the_last_is_told() -> None:
    """19:00 to 08:00 is open, but the person sleeps from 18:00 to 23:00; and the other way round."""
    asleep = QuietHours(time(18), time(23))
    assert hours(quiet=asleep).put_off(NOON) == PutOff(datetime(2026, 3, 2, 15, tzinfo=UTC), Because.QUIET_HOURS)
    asleep = QuietHours(time(11), time(13))
    assert hours(quiet=asleep).put_off(NOON) == PutOff(datetime(2026, 3, 2, 11, tzinfo=UTC), Because.WINDOW)


def test_what_is_mandatory_keeps_to_the_window_and_not_to_quiet_hours_that_end_too_late() -> None:
    asleep = QuietHours(time(18), time(23))
    found = hours(quiet=asleep, mandatory=True, life=timedelta(hours=8)).put_off(NOON)
    assert found == PutOff(datetime(2026, 3, 2, 11, tzinfo=UTC), Because.WINDOW)


def test_the_plan_waits_for_it_or_ends_at_once_where_it_opens_too_late() -> None:
    """At the very moment it opens, too: it could not be handed over in time."""
    person = Person("u-1", True, "en", {Channel.EMAIL: "a@example.com"}, "Asia/Shanghai")
    for life, late in ((timedelta(hours=8), False), (timedelta(hours=7), True)):
        request = Request(
            (Channel.EMAIL, Channel.INAPP), Strategy.ALL, NOON + life, user_id="u-1", lane=Lane.LOW, window=EVENING
        )
        found = plan(request, person=person, now=NOON, served=frozenset(Channel))
        assert (found.put_off is None, found.open == ()) == (late, late)
        assert [(d.status, d.reason) for d in found.drops] == [(Status.EXPIRED, Reason.EXPIRED_OUTSIDE_WINDOW)] * (
            2 if late else 0
        )
