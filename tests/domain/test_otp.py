"""One-time codes as rules: every history of guesses, waits and resends, and what counts against which limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.channels import Channel
from domain.otp import (
    GUESSES,
    MOST_ATTEMPTS,
    MOST_SENDS,
    CodeState,
    Limit,
    Policy,
    ResendVerdict,
    Scope,
    Verdict,
    address_range,
    client_network,
    closed,
    counted,
    mailbox,
    one_further,
    recipients,
    resend,
    verify,
)

LIFE, COOLDOWN = timedelta(minutes=5), timedelta(seconds=60)
START = datetime(2026, 12, 1, tzinfo=UTC)


class Histories(RuleBasedStateMachine):
    """Any order of guesses, waits and resends. What is counted here is counted apart from the code under test."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.state = CodeState(START + LIFE, START + COOLDOWN)
        self.wrong = self.sends = self.verified = 0
        self.sent_at = START
        self.sends = 1

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def guess_wrong(self) -> None:
        verdict, self.state = verify(self.state, right=False, now=self.now)
        assert verdict is not Verdict.VERIFIED
        self.wrong += verdict is Verdict.WRONG

    @rule()
    def guess_right(self) -> None:
        fresh = self.now < self.sent_at + LIFE
        open_ = not self.verified and self.wrong < MOST_ATTEMPTS
        verdict, self.state = verify(self.state, right=True, now=self.now)
        assert (verdict is Verdict.VERIFIED) == (fresh and open_)
        self.verified += verdict is Verdict.VERIFIED

    @rule()
    def resend(self) -> None:
        verdict, self.state = resend(self.state, now=self.now, life=LIFE, cooldown=COOLDOWN)
        if verdict is ResendVerdict.SENT:
            assert self.now - self.sent_at >= COOLDOWN
            assert not self.verified
            self.sent_at, self.sends = self.now, self.sends + 1

    @invariant()
    def an_end_is_told_whatever_was_guessed(self) -> None:
        """What is said without looking at a guess is what any guess is told: `verify` may ask `closed` first."""
        end = closed(self.state, now=self.now)
        told = [verify(self.state, right=right, now=self.now)[0] for right in (True, False)]
        assert told == ([Verdict.VERIFIED, Verdict.WRONG] if end is None else [end, end])

    @invariant()
    def never_more_than_allowed(self) -> None:
        assert self.verified <= 1
        assert self.wrong <= MOST_ATTEMPTS
        assert self.sends <= MOST_SENDS
        assert (self.state.attempts, self.state.sends, self.state.used) == (self.wrong, self.sends, bool(self.verified))


TestHistories = Histories.TestCase


def test_an_end_is_told_before_the_time() -> None:
    """A code that was used or locked says so for as long as it is kept, not that it has expired."""
    late = START + timedelta(days=1)
    used = CodeState(START, START, used=True)
    locked = CodeState(START, START, attempts=MOST_ATTEMPTS)
    assert verify(used, right=True, now=late)[0] is Verdict.USED
    assert verify(locked, right=True, now=late)[0] is Verdict.LOCKED
    assert resend(used, now=late, life=LIFE, cooldown=COOLDOWN)[0] is ResendVerdict.USED
    assert resend(locked, now=late, life=LIFE, cooldown=COOLDOWN)[0] is ResendVerdict.LOCKED


def test_a_guess_at_an_expired_code_is_not_counted() -> None:
    state = CodeState(START, START)
    assert verify(state, right=False, now=START) == (Verdict.EXPIRED, state)


def test_a_resend_begins_one_channel_further() -> None:
    chain = (Channel.EMAIL, Channel.WEBHOOK, Channel.INAPP)
    assert one_further(chain) == (Channel.WEBHOOK, Channel.INAPP, Channel.EMAIL)
    assert one_further(()) == ()


def test_what_a_send_counts_against() -> None:
    to = (Channel.EMAIL, "Fang+x@Example.com")
    found = counted(user_id="u-1", to=[to], purpose="login")
    assert Scope.RANGE not in {scope for scope, _ in found}
    assert (Scope.TENANT, "") in found
    for scope in (Scope.RECIPIENT_HOUR, Scope.RECIPIENT_DAY):
        assert {value for s, value in found if s is scope} == {"user:u-1", "address:email:fang@example.com"}
    assert {value for s, value in found if s is Scope.COOLDOWN} == {
        "user:u-1:login", "address:email:fang@example.com:login"
    }  # fmt: skip


def test_every_range_of_a_chain_counts_and_each_subject_once() -> None:
    """Catches: a chain whose first channel is free, and whose second costs and is counted nowhere."""
    to = [(Channel.EMAIL, "fang@example.com"), (Channel.WEBHOOK, "+8613800001234")]
    later = [(Channel.WEBHOOK, "+8613800001299"), (Channel.WEBHOOK, "+8613900001299")]
    found = counted(user_id=None, to=to, later=later, purpose="login")
    assert [value for scope, value in found if scope is Scope.RANGE] == ["webhook:+861380000", "webhook:+861390000"]
    assert len(found) == len(set(found))


def test_only_whom_it_goes_to_is_a_recipient() -> None:
    """Catches: somebody else's phone as a second channel, which uses up that one's codes without sending any."""
    to, later = (Channel.EMAIL, "fang@example.com"), (Channel.WEBHOOK, "+8613800001234")
    found = counted(user_id="u-1", to=[to], later=[later], purpose="login")
    for scope in (Scope.COOLDOWN, Scope.RECIPIENT_HOUR, Scope.RECIPIENT_DAY):
        assert [value for s, value in found if s is scope and "+86" in value] == []
        assert len([value for s, value in found if s is scope]) == 2


def test_whose_codes_they_are() -> None:
    """Catches: another spelling of an address, or another purpose, that buys new guesses."""
    to = [(Channel.EMAIL, "Fang+x@Example.com"), (Channel.EMAIL, "fang@example.com"), (Channel.WEBHOOK, "+8613800001234")]
    found = ["address:email:fang@example.com", "address:webhook:+8613800001234"]
    assert recipients(user_id=None, to=to) == found
    assert recipients(user_id="u-1", to=to) == ["user:u-1", *found]


def test_limits_of_guesses_are_no_limits_of_sends() -> None:
    """Each can be without the other, and no send counts as a guess."""
    limits = {scope: Limit(1, timedelta(hours=1)) for scope in Scope}
    assert set(Policy(limits).guesses) == {*GUESSES} == {Scope.GUESSES_HOUR, Scope.GUESSES_DAY}
    assert Policy({Scope.TENANT: limits[Scope.TENANT]}).guesses == {}
    to = [(Channel.EMAIL, "fang@example.com")]
    assert {scope for scope, _ in counted(user_id="u-1", to=to, purpose="login")} & {*GUESSES} == set()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("+8613800001234", "+861380000"),
        ("fang@Mail.Example.COM", None),
        ("https://Hook.example.com:8443/a/b", "hook.example.com"),
    ],
)
def test_ranges_of_addresses(address: str, found: str | None) -> None:
    assert address_range(address) == found


def test_addresses_of_one_person_are_one() -> None:
    assert mailbox("Fang+1@Example.com") == mailbox("fang@example.com") == "fang@example.com"
    assert mailbox("https://a@example.com/x+y") == "https://a@example.com/x+y"
    assert mailbox("+8613800001234") == "+8613800001234"


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
    ],
)
def test_networks_of_clients(ip: str, network: str) -> None:
    assert client_network(ip) == network


@given(st.text(max_size=45))
def test_what_is_no_address_is_a_value_error_at_most(text: str) -> None:
    try:
        client_network(text)
    except ValueError:
        return
