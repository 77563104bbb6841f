"""The plan: each requested channel is tried, follows in the chain, or is dropped with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.channels import Channel
from domain.planning import DEFAULT_CHANNELS, Person, Plan, Request, plan
from domain.states import Reason, Status, Strategy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
channels = st.lists(st.sampled_from(Channel), unique=True)
addresses = st.dictionaries(st.sampled_from(Channel), st.text(min_size=1, max_size=9))
people = st.builds(Person, st.just("u-1"), st.booleans(), st.sampled_from(["", "en", "zh-CN"]), addresses)
requests = st.builds(
    Request,
    channels=channels,
    strategy=st.sampled_from(Strategy),
    expires_at=st.sampled_from([NOW - timedelta(seconds=1), NOW, NOW + timedelta(seconds=1)]),
    user_id=st.none() | st.just("u-1"),
    direct=st.none() | st.tuples(st.sampled_from(Channel), st.just("address")),
)
served_sets = st.frozensets(st.sampled_from(Channel))
EVERYTHING = frozenset(Channel)
ANNA = Person("u-1", True, "en", {Channel.EMAIL: "a@example.com", Channel.WEBHOOK: "https://example.com"})


def wanted(*names: Channel, strategy: Strategy = Strategy.ALL, expires_at: datetime = NOW + timedelta(hours=1)) -> Request:
    return Request(names, strategy, expires_at, user_id="u-1")


def made(request: Request, *, person: Person | None = ANNA, served: frozenset[Channel] = EVERYTHING) -> Plan:
    return plan(request, person=person, now=NOW, served=served)


@given(requests, st.none() | people, served_sets)
def test_every_channel_appears_exactly_once(request: Request, person: Person | None, served: frozenset[Channel]) -> None:
    """A channel that silently disappears is what people call `it did not arrive`."""
    found = plan(request, person=person, now=NOW, served=served)
    expected = list(request.channels) or ([request.direct[0]] if request.direct else list(DEFAULT_CHANNELS))
    numbered = sorted([(s.n, s.channel) for s in (*found.open, *found.chain)] + [(d.n, d.channel) for d in found.drops])
    assert numbered == list(enumerate(expected, start=1))


@given(requests, st.none() | people, served_sets)
def test_what_is_tried_has_an_address_and_an_account(
    request: Request, person: Person | None, served: frozenset[Channel]
) -> None:  # fmt: skip
    """Otherwise the hand-over would find out, with a claim in its hand."""
    found = plan(request, person=person, now=NOW, served=served)
    for step in (*found.open, *found.chain):
        assert step.channel in served
        assert step.address


@given(requests, st.none() | people, served_sets)
def test_chains_have_one_open_place_in_the_order_asked_for(
    request: Request, person: Person | None, served: frozenset[Channel]
) -> None:  # fmt: skip
    """`fallback` is an order of preference."""
    found = plan(request, person=person, now=NOW, served=served)
    numbers = [s.n for s in (*found.open, *found.chain)]
    assert numbers == sorted(numbers)
    if request.strategy is Strategy.ALL:
        assert found.chain == ()
    else:
        assert len(found.open) <= 1
        assert found.open or not found.chain


def test_what_has_expired_is_dropped_as_that() -> None:
    """At the very moment too, and before anything else is said about it."""
    for at in (NOW, NOW - timedelta(days=1)):
        found = made(wanted(Channel.EMAIL, Channel.INAPP, expires_at=at), person=None)
        assert found.open == ()
        assert {(d.status, d.reason) for d in found.drops} == {(Status.EXPIRED, Reason.EXPIRED_BEFORE_PLAN)}


def test_a_user_who_has_gone_gets_nothing_on_any_channel() -> None:
    """Erased, merged, deactivated, or not there any more."""
    for person in (None, Person("u-1", False, "en", ANNA.addresses)):
        found = made(wanted(*Channel), person=person)
        assert found.open == ()
        assert {(d.status, d.reason) for d in found.drops} == {(Status.SUPPRESSED, Reason.RECIPIENT_GONE)}


def test_a_direct_address_serves_its_own_channel_only() -> None:
    """And needs no user."""
    request = Request(
        (Channel.WEBHOOK, Channel.EMAIL), Strategy.ALL, NOW + timedelta(hours=1), direct=(Channel.EMAIL, "a@x")
    )
    found = made(request, person=None)
    assert [(s.n, s.channel, s.address) for s in found.open] == [(2, Channel.EMAIL, "a@x")]
    assert [(d.channel, d.reason) for d in found.drops] == [(Channel.WEBHOOK, Reason.NO_ADDRESS)]


def test_a_chain_leaves_out_what_cannot_be_tried() -> None:
    """And says so; the first place that can is open at once."""
    person = Person("u-1", True, "", {Channel.EMAIL: "a@x"})
    found = made(wanted(Channel.WEBHOOK, Channel.EMAIL, Channel.INAPP, strategy=Strategy.FALLBACK), person=person)
    assert [s.channel for s in found.open] == [Channel.EMAIL]
    assert [(s.channel, s.address) for s in found.chain] == [(Channel.INAPP, "u-1")]
    assert [(d.channel, d.status, d.reason) for d in found.drops] == [
        (Channel.WEBHOOK, Status.SUPPRESSED, Reason.NO_ADDRESS)
    ]  # fmt: skip


def test_a_channel_without_an_account_fails_as_that() -> None:
    """An operator has to act, so it is no suppression."""
    found = made(wanted(Channel.EMAIL), served=frozenset())
    assert [(d.status, d.reason) for d in found.drops] == [(Status.FAILED, Reason.NO_ACCOUNT)]


def test_the_users_locale_goes_with_the_plan() -> None:
    """It is the locale at plan time that all channels are rendered in."""
    assert made(wanted(Channel.EMAIL)).locale == "en"
