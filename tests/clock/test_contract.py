"""What every clock does: the machine's, and the one for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest

from domain.clock import Clock
from infra.clock import ManualClock, SystemClock

SPAN = timedelta(milliseconds=20)


@dataclass(frozen=True)
class Place:
    clock: Clock
    wait: Callable[[timedelta], None]
    """Let time pass."""


@pytest.fixture(params=["system", "manual"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "system":
        return Place(SystemClock(), lambda span: time.sleep(span.total_seconds()))
    clock = ManualClock()
    return Place(clock, clock.advance)


def test_a_moment_is_in_utc(place: Place) -> None:
    assert place.clock.now().tzinfo is UTC


def test_it_shows_the_present(place: Place) -> None:
    assert abs(place.clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_moments_and_spans_go_on_together(place: Place) -> None:
    now, monotonic_s = place.clock.now(), place.clock.monotonic_s()
    place.wait(SPAN)
    assert place.clock.now() - now >= SPAN * 0.9
    assert place.clock.monotonic_s() - monotonic_s >= SPAN.total_seconds() * 0.9


def test_spans_never_go_back(place: Place) -> None:
    read = []
    for _ in range(100):
        read.append(place.clock.monotonic_s())
        place.wait(timedelta())
    assert read == sorted(read)


def test_a_kept_method_goes_on_telling_the_time(place: Place) -> None:
    """As hot paths keep it."""
    monotonic_s = place.clock.monotonic_s
    began_s = monotonic_s()
    place.wait(SPAN)
    assert monotonic_s() > began_s


def test_by_hand_it_moves_as_it_is_told_and_no_further() -> None:
    start = datetime(2026, 3, 29, 1, 59, tzinfo=timezone(timedelta(hours=1)))
    clock = ManualClock(start)
    assert (clock.now(), clock.now().tzinfo) == (start, UTC)
    began_s = clock.monotonic_s()
    clock.advance(timedelta(minutes=2))
    assert (clock.now() - start, clock.monotonic_s() - began_s) == (timedelta(minutes=2), 120)
    with pytest.raises(ValueError, match="back"):
        clock.advance(timedelta(seconds=-1))


def test_a_clock_that_is_set_back_lengthens_no_span() -> None:
    clock = ManualClock()
    began_s = clock.monotonic_s()
    clock.set(clock.now() - timedelta(hours=1))
    assert clock.monotonic_s() == began_s
