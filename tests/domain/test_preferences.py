"""Preferences: the most specific choice wins, and what is mandatory ends by none."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.channels import Channel
from domain.lanes import Lane
from domain.planning import Person, Plan, Request, plan
from domain.preferences import NO_PREFERENCES, UNREADABLE, Cap, CategoryChoice, Preferences, Wishes
from domain.quiet_hours import QuietHours
from domain.states import Reason, Status, Strategy
from domain.windows import Because, PutOff

NOW = datetime(2026, 3, 1, 23, tzinfo=UTC)
NIGHT = QuietHours(time(22), time(8))
MORNING = datetime(2026, 3, 2, 8, tzinfo=UTC)
EVERYWHERE = frozenset(Channel)
names = st.sampled_from([*(c.value for c in Channel), "fax"])
switches = st.dictionaries(names, st.booleans())
choices = st.builds(CategoryChoice, st.none() | st.booleans(), switches)
preferences = st.builds(
    Preferences,
    channels=switches,
    categories=st.dictionaries(st.sampled_from(["orders", "marketing"]), choices),
    preferred=st.lists(names, unique=True),
    quiet_hours=st.none() | st.just(NIGHT),
)
lists = st.lists(st.sampled_from(Channel), unique=True, min_size=1)


def planned(
    wishes: Preferences,
    *channels: Channel,
    strategy: Strategy = Strategy.ALL,
    lane: Lane = Lane.MEDIUM,
    life: timedelta = timedelta(days=1),
    mandatory: bool = False,
) -> Plan:
    request = Request(channels, strategy, NOW + life, user_id="u-1", category="orders", lane=lane)
    person = Person("u-1", True, "", dict.fromkeys(Channel, "address"), "", wishes)
    return plan(request, person=person, now=NOW, served=EVERYWHERE, mandatory=mandatory)


@given(preferences, st.sampled_from(Channel), st.sampled_from(["orders", "marketing", "other", ""]))
def test_the_most_specific_choice_wins(wishes: Preferences, channel: Channel, category: str) -> None:
    choice = wishes.categories.get(category, CategoryChoice())
    permitted = wishes.permits(channel, category=category)
    if channel in choice.channels:
        assert permitted is choice.channels[channel]
    else:
        assert permitted is (False not in (choice.enabled, wishes.channels.get(channel)))


def test_no_preferences_permit_everything_and_unreadable_ones_nothing() -> None:
    """What cannot be read may be an opt-out."""
    for channel in Channel:
        assert NO_PREFERENCES.permits(channel, category="orders")
        assert not UNREADABLE.permits(channel, category="orders")


@given(preferences, lists)
def test_what_is_mandatory_ends_by_no_preference(wishes: Preferences, channels: list[Channel]) -> None:
    """A notice that the law asks for is at most put off, and only while there is time."""
    for life in (timedelta(hours=1), timedelta(days=1)):
        found = planned(wishes, *channels, mandatory=True, life=life)
        assert [s.channel for s in found.open] == channels
        assert found.drops == ()
        assert found.put_off is None or found.put_off.until < NOW + life
    assert not Wishes(Preferences(category_caps={"orders": Cap(0, timedelta(days=1))}), "orders", mandatory=True).limits(
        Channel
    )


@given(preferences, lists, st.sampled_from(Strategy))
def test_every_channel_is_tried_or_dropped_with_the_reason(
    wishes: Preferences, channels: list[Channel], strategy: Strategy
) -> None:  # fmt: skip
    found = planned(wishes, *channels, strategy=strategy)
    tried = {s.channel for s in (*found.open, *found.chain)}
    assert tried == {c for c in channels if wishes.permits(c, category="orders")}
    assert {(d.channel, d.status, d.reason) for d in found.drops} == {
        (c, Status.SUPPRESSED, Reason.OPTED_OUT) for c in channels if c not in tried
    }


@given(preferences, lists)
def test_preferred_channels_come_first_and_the_others_as_they_were_asked_for(
    wishes: Preferences, channels: list[Channel]
) -> None:  # fmt: skip
    found = planned(wishes, *channels, strategy=Strategy.PREFERRED)
    tried = [s.channel for s in (*found.open, *found.chain)]
    chosen = [c for c in wishes.preferred if c in tried]
    assert tried == chosen + [c for c in channels if c in tried and c not in chosen]
    assert len(found.open) == min(1, len(tried))
    assert all(channels[s.n - 1] is s.channel for s in (*found.open, *found.chain)), "n is the place it was asked for at"


def test_the_medium_and_low_lanes_wait_for_the_end_of_quiet_hours() -> None:
    wishes = Preferences(quiet_hours=NIGHT)
    for lane, until in ((Lane.HIGH, None), (Lane.MEDIUM, MORNING), (Lane.LOW, MORNING)):
        found = planned(wishes, Channel.EMAIL, lane=lane)
        assert [s.channel for s in found.open] == [Channel.EMAIL]
        assert found.put_off == (PutOff(until, Because.QUIET_HOURS) if until else None)


def test_what_would_expire_in_quiet_hours_ends_at_once_with_that_reason() -> None:
    """At their very end too: it could not be handed over in time."""
    for life in (timedelta(hours=1), MORNING - NOW):
        found = planned(Preferences(quiet_hours=NIGHT), Channel.EMAIL, Channel.INAPP, life=life)
        assert (found.open, found.chain, found.put_off) == ((), (), None)
        assert [(d.status, d.reason) for d in found.drops] == [(Status.EXPIRED, Reason.EXPIRED_IN_QUIET_HOURS)] * 2


def test_nobody_who_has_opted_out_is_put_off() -> None:
    """There is nothing to wait for."""
    found = planned(Preferences({"email": False}, quiet_hours=NIGHT), Channel.EMAIL)
    assert (found.put_off, [d.reason for d in found.drops]) == (None, [Reason.OPTED_OUT])
