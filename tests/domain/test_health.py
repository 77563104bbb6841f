"""An account's circuit, and what slowness leaves of its weight."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.health import (
    FIRST_OPEN_S,
    IN_A_ROW,
    LEAST_CALLS,
    LONGEST_OPEN_S,
    SLOW_S,
    SLOW_WINDOW_S,
    Circuit,
    Health,
)
from domain.lanes import POLICIES, Lane
from domain.results import ResultClass

OK, RETRY = ResultClass.OK, ResultClass.RETRY


def call(health: Health, result: ResultClass, *, at_s: float, took_s: float = 0.1) -> None:
    era = health.begin(at_s, calls=1)
    health.note(result, now_s=at_s, took_s=took_s, era=era)


def tripped() -> Health:
    health = Health()
    for k in range(IN_A_ROW):
        call(health, RETRY, at_s=k / 100)
    return health


def test_failures_in_a_row_open_it_however_few_calls_there_are() -> None:
    assert tripped().circuit(0.1) is Circuit.OPEN


def test_half_of_the_calls_failing_opens_it_and_a_third_does_not() -> None:
    half, third = Health(), Health()
    for k in range(LEAST_CALLS * 2):
        if half.circuit(k / 100) is Circuit.CLOSED:
            call(half, RETRY if k % 2 else OK, at_s=k / 100)
        call(third, OK if k % 3 else RETRY, at_s=k / 100)
    assert half.circuit(0.3) is Circuit.OPEN
    assert third.circuit(0.3) is Circuit.CLOSED


def test_what_a_working_provider_says_never_opens_it() -> None:
    health = Health()
    for k in range(100):
        call(health, [ResultClass.RECIPIENT, ResultClass.PERMANENT, ResultClass.RATE][k % 3], at_s=k / 100)
    assert health.circuit(1.0) is Circuit.CLOSED


def test_open_lets_nothing_through_and_half_open_one_probe() -> None:
    health = tripped()
    assert health.may_begin(1.0, wanted=8) == 0
    assert 0 < health.wait_s(1.0) <= FIRST_OPEN_S
    later = FIRST_OPEN_S + 1
    assert health.circuit(later) is Circuit.HALF_OPEN
    assert health.wait_s(later) == 0
    assert health.may_begin(later, wanted=8) == 1
    era = health.begin(later, calls=1)
    assert health.may_begin(later, wanted=8) == 0
    assert health.wait_s(later) > 0
    health.give_back(era=era)
    assert health.may_begin(later, wanted=8) == 1, "a probe that was not made leaves its place"


def test_a_probe_closes_it_or_opens_it_for_longer() -> None:
    health = tripped()
    at_s, waits = 0.1, []
    for _ in range(10):
        waits.append(health.wait_s(at_s))
        at_s += waits[-1] + 0.1
        call(health, RETRY, at_s=at_s)
        assert health.circuit(at_s) is Circuit.OPEN
    rounded = [round(wait_s, 3) for wait_s in waits]
    assert rounded == sorted(rounded)
    assert max(rounded) == LONGEST_OPEN_S
    at_s += health.wait_s(at_s) + 0.1
    call(health, OK, at_s=at_s)
    assert health.circuit(at_s) is Circuit.CLOSED
    for _ in range(IN_A_ROW):
        call(health, RETRY, at_s=at_s)
    assert health.wait_s(at_s) == FIRST_OPEN_S, "it begins anew"


def test_a_late_success_of_a_call_from_before_closes_it() -> None:
    health = tripped()
    health.note(OK, now_s=1.0, took_s=0.9)
    assert health.circuit(1.0) is Circuit.CLOSED


def test_slow_calls_take_weight_and_it_drifts_back() -> None:
    health = Health()
    for k in range(LEAST_CALLS):
        call(health, OK, at_s=float(k), took_s=SLOW_S * 2 if k % 2 else 0.1)
    assert health.weight_share(10.0) == 0.5
    for k in range(LEAST_CALLS):
        call(health, OK, at_s=20.0 + k)
    assert health.weight_share(30.0) == 0.75
    assert health.weight_share(20.0 + SLOW_WINDOW_S) == 1.0


def test_a_few_calls_say_nothing() -> None:
    health = Health()
    for k in range(LEAST_CALLS - 1):
        call(health, OK, at_s=float(k), took_s=SLOW_S * 2)
    assert health.weight_share(10.0) == 1.0


@given(st.lists(st.tuples(st.sampled_from(list(ResultClass)), st.floats(0, 20)), max_size=60))
def test_it_is_never_stuck(calls: list[tuple[ResultClass, float]]) -> None:
    """Whatever happened, after the wait that it states a call may begin."""
    health, at_s = Health(), 0.0
    for result, pause_s in calls:
        at_s += pause_s
        if health.may_begin(at_s, wanted=1):
            call(health, result, at_s=at_s)
        at_s += health.wait_s(at_s)
        assert health.may_begin(at_s, wanted=1) == 1
        assert 0.0 <= health.weight_share(at_s) <= 1.0


def test_what_began_before_it_opened_frees_no_place_of_a_probe() -> None:
    """Caught: a late answer, or a claim given back, from before let a second probe begin beside the first."""
    health = Health()
    before = health.begin(0.0, calls=3)
    for k in range(IN_A_ROW):
        call(health, RETRY, at_s=k / 100)
    later = FIRST_OPEN_S + 1
    health.begin(later, calls=1)
    health.give_back(era=before)
    health.note(RETRY, now_s=later, took_s=5.0, era=before)
    assert health.may_begin(later, wanted=8) == 0


def test_a_failure_from_before_it_opened_is_no_news() -> None:
    """Caught: it doubled the opening, and the probe that succeeded a moment later had nothing to close."""
    health = Health()
    before = health.begin(0.0, calls=1)
    for k in range(IN_A_ROW):
        call(health, RETRY, at_s=k / 100)
    later = FIRST_OPEN_S + 1
    probe = health.begin(later, calls=1)
    health.note(RETRY, now_s=later, took_s=5.0, era=before)
    assert health.circuit(later) is Circuit.HALF_OPEN
    health.note(OK, now_s=later, took_s=0.1, era=probe)
    assert health.circuit(later) is Circuit.CLOSED
    for _ in range(IN_A_ROW):
        health.note(RETRY, now_s=later, took_s=9.0, era=before)
    assert health.circuit(later) is Circuit.CLOSED, "nor does it open it anew"


def test_the_longest_opening_leaves_the_high_lane_time() -> None:
    """Caught: it lasted as long as an OTP lives. What was accepted as it began expired, though the provider was back."""
    assert POLICIES[Lane.HIGH].expires_in.total_seconds() >= LONGEST_OPEN_S * 5


def test_whoever_throttles_is_left_alone_and_the_circuit_stays_closed() -> None:
    health = Health()
    health.throttle.hold(60.0, now_s=0.0, took_s=0.1)
    assert health.may_begin(1.0, wanted=8) == 0
    assert health.wait_s(1.0) == 59.0
    assert health.circuit(1.0) is Circuit.CLOSED
    assert health.may_begin(60.0, wanted=8) == 8


def test_a_probe_before_its_time_is_made_ever_more_rarely_while_none_succeeds() -> None:
    """Caught: a process that alone cannot reach its provider probed at every heartbeat, as though nothing had failed."""
    health, looks = tripped(), list[float]()
    for at_s in range(1, 600, 5):
        if health.look_again(at_s):
            looks.append(at_s)
        if health.circuit(at_s) is Circuit.HALF_OPEN:
            call(health, RETRY, at_s=at_s + 0.5)
    assert looks[0] == 1, "the first at once"
    assert all(b - a >= 2 * FIRST_OPEN_S for a, b in pairwise(looks))
    assert all(b - a >= LONGEST_OPEN_S for a, b in pairwise(looks[3:]))
    health = tripped()
    assert health.look_again(1.0)
    call(health, OK, at_s=1.5)
    for k in range(IN_A_ROW):
        call(health, RETRY, at_s=20.0 + k / 100)
    assert health.look_again(21.0), "one has succeeded"
