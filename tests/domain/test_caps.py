"""Frequency caps: no window holds more than was allowed, whatever the order of plans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.caps import Capped, Use
from domain.channels import Channel
from domain.planning import Plan, PlannedStep
from domain.preferences import Cap, Limits
from domain.states import Reason, Strategy
from domain.windows import Because, PutOff

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LATER = PutOff(NOW, Because.QUIET_HOURS)
ALL = (Channel.INAPP, Channel.EMAIL, Channel.WEBHOOK)


def steps(*channels: Channel) -> tuple[PlannedStep, ...]:
    return tuple(PlannedStep(n, channel, "address") for n, channel in enumerate(channels, start=1))


def one(number: int, limits: Limits, *, at: datetime = NOW, strategy: Strategy = Strategy.ALL) -> Capped:
    return Capped(UUID(int=number), limits, "orders", strategy, at)


@given(st.lists(st.integers(0, 200), max_size=40), st.integers(0, 5), st.integers(1, 48), st.sampled_from(["", "orders"]))
def test_no_window_holds_more_than_the_cap(hours: list[int], most: int, window_h: int, category: str) -> None:
    """Plans are made in any order of the times at which they are due: quiet hours put some off past others."""
    cap = Cap(most, timedelta(hours=window_h))
    limits = Limits(category=cap) if category else Limits(channels={Channel.EMAIL: cap})
    uses: list[Use] = []
    for number, hour in enumerate(hours):
        capped = one(number, limits, at=NOW + timedelta(hours=hour))
        uses += capped.uses(capped.room(Plan(steps(Channel.EMAIL, Channel.INAPP)), uses=uses))
    sent = sorted({(u.at, u.notification_id) for u in uses if u.channel == Channel.EMAIL})
    for first, _ in sent:
        assert sum(first <= at < first + cap.window for at, _ in sent) <= most


def test_a_category_counts_notifications_and_a_channel_counts_what_is_sent_on_it() -> None:
    limits = Limits(Cap(2, DAY), {Channel.EMAIL: Cap(1, DAY)})
    uses: list[Use] = []
    tried: list[list[Channel]] = []
    for number in range(3):
        fitted = one(number, limits).room(Plan(steps(*ALL)), uses=uses)
        uses += one(number, limits).uses(fitted)
        tried.append([s.channel for s in fitted.open])
    assert tried == [list(ALL), [Channel.INAPP, Channel.WEBHOOK], []]


def test_what_there_is_no_room_for_is_dropped_with_the_reason_and_a_chain_closes_up() -> None:
    limits = Limits(channels={Channel.INAPP: Cap(0, DAY)})
    first, *rest = steps(*ALL)
    fitted = one(1, limits, strategy=Strategy.FALLBACK).room(Plan((first,), tuple(rest), (), "en", LATER), uses=[])
    assert ([s.n for s in fitted.open], [s.n for s in fitted.chain]) == ([2], [3])
    assert [(d.n, d.reason) for d in fitted.drops] == [(1, Reason.FREQUENCY_CAP)]
    assert (fitted.locale, fitted.put_off) == ("en", LATER)
    nothing = one(1, Limits(Cap(0, DAY))).room(Plan(steps(*ALL), (), (), "en", LATER), uses=[])
    assert (nothing.open, nothing.put_off, len(nothing.drops)) == ((), None, 3)


def test_other_categories_earlier_windows_and_its_own_earlier_plan_do_not_count() -> None:
    limits = Limits(Cap(1, DAY))
    before = [
        Use(UUID(int=7), 1, "email", "orders", NOW - DAY),
        Use(UUID(int=8), 1, "email", "marketing", NOW),
        Use(UUID(int=1), 1, "email", "orders", NOW),
    ]
    plan = Plan(steps(Channel.EMAIL))
    assert one(1, limits).room(plan, uses=before) == plan
    assert one(2, limits).room(plan, uses=before).open == ()
