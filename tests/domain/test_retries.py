"""The tables of what follows an answer: complete, and the decision does what they say, in every lane."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.attempts import AttemptedStep, Decision, decide
from domain.lanes import POLICIES, Lane
from domain.receipts import why_failed
from domain.results import Refuser, ResultClass, SendResult
from domain.retries import FOR_GOOD, JITTER, MOST_ATTEMPTS, RULES, WAITS, Case, Elsewhere, case_of
from domain.states import SUCCESS, Status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG = NOW + timedelta(days=80)
NONE = timedelta(0)
ANSWERS: dict[Case, tuple[SendResult, bool, bool]] = {
    **{Case(one.value): (SendResult(one), False, False) for one in ResultClass if one.value in set(Case)},
    Case.RETRY_ONE: (SendResult(ResultClass.RETRY, of_recipient=True), False, False),
    Case.ENDPOINT: (SendResult(ResultClass.PERMANENT, refuser=Refuser.ENDPOINT), False, False),
    Case.MAILBOX_FULL: (SendResult(ResultClass.PERMANENT, refuser=Refuser.MAILBOX_FULL), False, False),
    Case.LOST_HOLD: (SendResult(ResultClass.UNKNOWN), False, False),
    Case.LOST_RESEND: (SendResult(ResultClass.UNKNOWN), False, True),
    Case.KNOWN_HOLD: (SendResult(ResultClass.UNKNOWN), True, False),
    Case.KNOWN_RESEND: (SendResult(ResultClass.UNKNOWN), True, True),
}
"""An answer of each case, whether the provider recognises a repetition, and whether it is to be sent again."""
CASES = pytest.mark.parametrize("case", list(Case))
LANES = pytest.mark.parametrize("lane", list(Lane))


def after(
    case: Case, lane: Lane, *, failures: int = 0, expires_at: datetime = LONG, spread: float = 0.0, elsewhere: str = "",
    falls_back_at: datetime | None = None, attempt: int = 1, throttled: timedelta | None = None,
    stated: timedelta | None = None,
) -> Decision:  # fmt: skip
    answer, recognised, resend = ANSWERS[case]
    step = AttemptedStep(lane, failures, expires_at, resend, recognised, bool(elsewhere), None, attempt, throttled,
                         falls_back_at)  # fmt: skip
    result = SendResult(answer.result, retry_after=stated, of_recipient=answer.of_recipient, refuser=answer.refuser)
    return decide(step, result, now=NOW, spread=spread)


def wait_after(case: Case, lane: Lane, **facts: object) -> timedelta:
    due_at = after(case, lane, **facts).due_at  # type: ignore[arg-type]
    assert due_at is not None
    return due_at - NOW


@pytest.mark.parametrize("result", [one for one in ResultClass if one is not ResultClass.OK])
@pytest.mark.parametrize("recognised", [True, False])
@pytest.mark.parametrize("resend", [True, False])
def test_every_answer_has_its_rule(result: ResultClass, recognised: bool, resend: bool) -> None:  # noqa: FBT001 - given by pytest
    """An answer without one would fail after the message had been handed over, and become unknown."""
    for of_recipient in (False, True):
        assert case_of(SendResult(result, of_recipient=of_recipient), recognised=recognised, resend=resend) in RULES
    assert set(RULES) == set(ANSWERS) == set(Case)
    for case, (answer, known, again) in ANSWERS.items():
        assert case_of(answer, recognised=known, resend=again) is case


@LANES
def test_every_lane_has_waits_that_grow_within_its_life(lane: Lane) -> None:
    """A first wait beyond a usual message's life would be none."""
    waits = WAITS[lane]
    assert NONE < waits[0] < POLICIES[lane].expires_in / 10
    assert list(waits) == sorted(waits)
    assert len(waits) < MOST_ATTEMPTS


@CASES
@LANES
def test_the_waits_of_a_case_are_the_lanes_within_its_bounds(case: Case, lane: Lane) -> None:
    rule, waits = RULES[case], RULES[case].waits(lane)
    assert list(waits) == sorted(waits)
    assert len(waits) == min(len(WAITS[lane]), len(WAITS[lane]) if rule.most is None else rule.most)
    assert all(rule.least <= wait <= rule.longest for wait in waits)
    assert rule.counts or waits, "what uses up no try needs a wait to begin with"


@CASES
@LANES
def test_it_is_tried_after_each_wait_of_the_table_and_then_ends(case: Case, lane: Lane) -> None:
    """From the first failure to the end, without a look at the code."""
    rule, failures = RULES[case], 0
    if not rule.counts:
        return
    for wait in rule.waits(lane):
        found = after(case, lane, failures=failures)
        assert found.due_at == NOW + wait * (1.0 if rule.only_later else 1.0 - JITTER)
        assert (found.status, found.failures, found.suppresses) == (Status.RETRYING, failures + 1, False)
        failures = found.failures
    end = after(case, lane, failures=failures)
    assert (end.status, end.reason, end.due_at) == (*rule.ends.tried, None)
    assert (end.falls_back, end.suppresses) == (rule.falls_back, rule.suppresses)


@LANES
@pytest.mark.parametrize("failures", [0, 3, 99])
def test_to_be_told_to_wait_uses_up_no_try(lane: Lane, failures: int) -> None:
    """However often: a busy hour would use up every one. Its waits are the table's in a row, and the last repeats."""
    rule, throttled, attempt = RULES[Case.RATE], None, failures + 1
    waits = rule.waits(lane)
    for expected in (*waits, waits[-1], waits[-1]):
        found = after(Case.RATE, lane, failures=failures, throttled=throttled, attempt=attempt)
        assert (found.due_at, found.failures) == (NOW + expected, failures)
        throttled, attempt = expected, attempt + 1
    assert [case for case in Case if not RULES[case].counts] == [Case.RATE]


spreads = st.floats(0, 1, exclude_max=True)
lives = st.timedeltas(timedelta(0), timedelta(days=4))


@given(
    st.sampled_from(Case), st.sampled_from(Lane), st.integers(0, 12), lives, spreads, st.none() | lives, st.none() | lives
)
def test_no_wait_passes_the_end_of_life_or_the_chains_time(
    case: Case, lane: Lane, failures: int, life: timedelta, spread: float, stated: timedelta | None, left: timedelta | None
) -> None:
    """Nobody wants what comes later. What ends for that says so."""
    rule = RULES[case]
    found = after(case, lane, failures=failures, expires_at=NOW + life, spread=spread, stated=stated,
                  falls_back_at=None if left is None else NOW + left)  # fmt: skip
    if found.due_at is None:
        assert found.status not in SUCCESS
        assert (found.status, found.reason) in {rule.ends.tried, rule.ends.late, rule.ends.expired}
        assert found.falls_back is rule.falls_back
        return
    assert NOW < found.due_at < NOW + life
    if left is not None and rule.falls_back:
        assert found.due_at <= NOW + left
    if stated is not None and rule.stated:
        assert found.due_at - NOW >= stated


@CASES
@LANES
def test_what_ends_it_says_why(case: Case, lane: Lane) -> None:
    rule = RULES[case]
    if not rule.waits(lane):
        return
    expired = after(case, lane, expires_at=NOW + timedelta(milliseconds=1))
    assert (expired.status, expired.reason) == rule.ends.expired
    late = after(case, lane, falls_back_at=NOW)
    assert rule.falls_back is (late.due_at is None), "a chain that stops here has no time"
    if rule.falls_back:
        assert (late.status, late.reason) == rule.ends.late


@CASES
@LANES
def test_a_stated_wait_counts_where_the_table_says_so(case: Case, lane: Lane) -> None:
    rule, day = RULES[case], timedelta(days=1)
    if rule.waits(lane):
        assert (wait_after(case, lane, stated=day) == day) is rule.stated


@CASES
@LANES
def test_another_account_is_used_as_the_table_says(case: Case, lane: Lane) -> None:
    rule, found = RULES[case], after(case, lane, elsewhere="usable")
    assert found.moves is (rule.elsewhere is not Elsewhere.NEVER)
    if rule.elsewhere is Elsewhere.AT_ONCE:
        assert found.due_at is not None
        assert (found.due_at <= NOW, found.failures) == (True, 0)
    elif found.moves:
        assert found.due_at == NOW + rule.waits(lane)[0] * (1 - JITTER)
        assert found.failures == 1


def test_a_refusal_for_good_is_one_at_once_and_in_a_receipt() -> None:
    """Otherwise the same refusal would end a message here and be carried to another account there."""
    assert {
        ANSWERS[case][0].result
        for case, rule in RULES.items()
        if not rule.most and rule.most is not None and rule.falls_back
    } == FOR_GOOD
    for result in FOR_GOOD | {ResultClass.CONFIG}:
        assert why_failed(result) is RULES[Case(result.value)].ends.tried.reason


@CASES
def test_what_may_have_been_taken_never_ends_as_failed(case: Case) -> None:
    ends = RULES[case].ends
    lost = ANSWERS[case][0].result is ResultClass.UNKNOWN
    assert all((end.status is Status.UNKNOWN) is lost for end in (ends.tried, ends.late, ends.expired))
    assert RULES[case].suppresses is (case is Case.RECIPIENT), "only a dead address closes it to everything"
