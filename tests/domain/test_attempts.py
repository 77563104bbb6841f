"""The decision after an attempt: bounded, never after the end of life, never too early."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.attempts import AttemptedStep, Decision, decide
from domain.lanes import POLICIES, Lane
from domain.results import ResultClass, SendResult
from domain.retries import JITTER, MOST_ATTEMPTS, RULES, WAITS, Case
from domain.states import FINAL, SUCCESS, Reason, Status

RETRYABLE = frozenset({ResultClass.RETRY, ResultClass.RATE, ResultClass.TOKEN, ResultClass.CONFIG})
"""Nothing was taken: the same address may be tried again."""
MAX_LIFE = timedelta(days=90)
"""`api.accept.request.MOST_LIFE`."""
LONGEST_THROTTLE = RULES[Case.RATE].longest
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
spreads = st.floats(0, 1, exclude_max=True)
steps = st.builds(
    AttemptedStep,
    lane=st.sampled_from(Lane),
    failures=st.integers(0, 12),
    expires_at=st.timedeltas(timedelta(days=-1), timedelta(days=40)).map(lambda d: NOW + d),
    resend_unknown=st.booleans(),
    idempotent=st.booleans(),
    attempt=st.integers(1, MOST_ATTEMPTS - 1),
    throttled=st.none() | st.timedeltas(timedelta(days=-1), timedelta(days=40)),
)
waits = st.none() | st.timedeltas(timedelta(days=-1), timedelta.max)
results = st.builds(SendResult, st.sampled_from(ResultClass), retry_after=waits, delivered=st.booleans())


def step(lane: Lane = Lane.MEDIUM, **fields: object) -> AttemptedStep:
    usual = AttemptedStep(lane, 0, NOW + timedelta(days=3), resend_unknown=False, idempotent=False)
    return replace(usual, **fields)  # type: ignore[arg-type]


def after(tried: AttemptedStep, result: ResultClass, *, spread: float = 0.5, wait_s: float | None = None) -> Decision:
    stated = None if wait_s is None else timedelta(seconds=wait_s)
    return decide(tried, SendResult(result, retry_after=stated), now=NOW, spread=spread)


@given(steps, results, spreads)
def test_a_next_attempt_is_due_within_its_life(tried: AttemptedStep, result: SendResult, spread: float) -> None:
    """Caught: a stated wait of centuries raised OverflowError after the message had been handed over. An attempt at or
    after the end of life would send what nobody wants any more."""
    decision = decide(tried, result, now=NOW, spread=spread)
    if decision.due_at is None:
        assert decision.status in FINAL
        assert (decision.reason is None) is (decision.status in SUCCESS)
    else:
        assert decision.status is Status.RETRYING
        assert NOW < decision.due_at < tried.expires_at
        assert not decision.falls_back
        assert not decision.suppresses


@given(steps, st.timedeltas(timedelta(milliseconds=1), timedelta.max), spreads, st.sampled_from(sorted(RETRYABLE)))
def test_a_stated_wait_is_never_cut_short(
    tried: AttemptedStep, wait: timedelta, spread: float, result: ResultClass
) -> None:
    """Caught for all but RATE: jitter went to both sides. Coming too early is what gets an account locked."""
    decision = decide(tried, SendResult(result, retry_after=wait), now=NOW, spread=spread)
    if decision.due_at is not None:
        assert decision.due_at - NOW >= wait


@given(steps, waits, spreads)
def test_rate_costs_no_attempt(tried: AttemptedStep, wait: timedelta | None, spread: float) -> None:
    """Being told to wait is no failure; a busy hour would use up every attempt."""
    decision = decide(tried, SendResult(ResultClass.RATE, retry_after=wait), now=NOW, spread=spread)
    assert decision.failures == tried.failures
    assert decision.status in {Status.RETRYING, Status.EXPIRED}


@pytest.mark.parametrize("written_late", [timedelta(0), timedelta(milliseconds=300)])
@pytest.mark.parametrize("wait_s", [None, 0.1, 1.0])
@pytest.mark.parametrize("lane", list(Lane))
def test_who_says_wait_all_the_time_is_asked_ever_less(lane: Lane, wait_s: float | None, written_late: timedelta) -> None:
    """Caught: 235,637 attempts in three days after `Retry-After: 1`, each an entry of the timeline, and in the end a number
    that the table cannot hold."""
    life = POLICIES[lane].expires_in
    now, attempts, ends, throttled = NOW, 0, NOW + life, None
    while True:
        attempts += 1
        tried = step(lane, expires_at=ends, attempt=attempts, throttled=throttled)
        stated = None if wait_s is None else timedelta(seconds=wait_s)
        decision = decide(tried, SendResult(ResultClass.RATE, retry_after=stated), now=now, spread=0.0)
        if decision.due_at is None:
            break
        throttled, now = decision.due_at - now - written_late, decision.due_at
    assert attempts <= life / LONGEST_THROTTLE + 20
    assert decision.status is Status.EXPIRED
    assert ends - now <= 2 * WAITS[lane][0], "it is tried until its time is over"


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("claims", [2, 7, 300])
def test_only_throttles_in_a_row_make_a_wait_longer(lane: Lane, claims: int) -> None:
    """Caught: a backlog that had waited for a stopped account, looked at every five minutes, met one `Retry-After: 1` and
    waited five minutes more. It was the first time that anybody said so."""
    first = WAITS[lane][0]
    tried, waits = step(lane, attempt=claims), list[timedelta]()
    for _ in range(3):
        decision = after(tried, ResultClass.RATE, spread=0.0, wait_s=1)
        assert decision.due_at is not None
        waits.append(decision.due_at - NOW)
        tried = replace(tried, attempt=tried.attempt + 1, throttled=waits[-1])
    assert waits[0] == max(timedelta(seconds=1), first)
    assert waits == [max(timedelta(seconds=1), wait) for wait in WAITS[lane][:3]]


def test_a_long_wait_that_is_stated_is_neither_shorter_nor_longer() -> None:
    """Growth is for those who do not say how long."""
    for attempt in (1, 2, 30):
        throttled = timedelta(seconds=900) if attempt > 1 else None
        decision = after(step(attempt=attempt, throttled=throttled), ResultClass.RATE, spread=0.0, wait_s=900)
        assert decision.due_at == NOW + timedelta(seconds=900)


@pytest.mark.parametrize("result", sorted(RETRYABLE))
def test_the_number_of_attempts_is_bounded(result: ResultClass) -> None:
    """It is a smallint in five tables, and in the names under which receipts come."""
    tried = step(attempt=MOST_ATTEMPTS, elsewhere=True)
    assert after(tried, result).status is Status.FAILED
    assert after(tried, result).reason is Reason.RETRIES_EXHAUSTED
    assert after(replace(tried, attempt=MOST_ATTEMPTS - 1), result).status is Status.RETRYING
    assert MAX_LIFE / LONGEST_THROTTLE < MOST_ATTEMPTS < 2**15


@given(st.sampled_from(Lane), st.lists(st.sampled_from(sorted(RETRYABLE - {ResultClass.RATE})), min_size=20), spreads)
def test_retries_are_bounded_by_the_lanes_table(lane: Lane, answers: list[ResultClass], spread: float) -> None:
    """Otherwise a dead server would be asked until the message expires, by every message."""
    tried, attempts = step(lane, expires_at=NOW + timedelta(days=30)), 0
    for answer in answers:
        attempts += 1
        decision = after(tried, answer, spread=spread)
        if decision.due_at is None:
            break
        tried = replace(tried, failures=decision.failures)
    assert attempts == len(WAITS[lane]) + 1
    assert decision.reason in {Reason.RETRIES_EXHAUSTED, Reason.ACCOUNT_MISCONFIGURED}
    assert decision.falls_back


@given(spreads, st.sampled_from(Lane))
def test_waits_follow_the_table_with_jitter(spread: float, lane: Lane) -> None:
    """What failed together must not come back together."""
    for failures, wait in enumerate(WAITS[lane]):
        decision = after(step(lane, failures=failures), ResultClass.RETRY, spread=spread)
        assert decision.due_at is not None
        assert wait * (1 - JITTER) <= decision.due_at - NOW <= wait * (1 + JITTER)


def test_an_account_that_must_be_mended_is_not_asked_all_the_time() -> None:
    """It cannot get better within a second."""
    decision = after(step(), ResultClass.CONFIG, spread=0.0)
    assert decision.due_at is not None
    assert decision.due_at - NOW >= timedelta(seconds=60) * (1 - JITTER)


@pytest.mark.parametrize("lane", list(Lane))
def test_unknown_is_resent_where_the_provider_recognises_it(lane: Lane) -> None:
    """Sending again cannot show twice, so holding it would be wrong, whatever `on_unknown` says."""
    for failures in range(len(WAITS[lane])):
        assert after(step(lane, idempotent=True, failures=failures), ResultClass.UNKNOWN).due_at is not None
    last = after(step(lane, idempotent=True, failures=len(WAITS[lane])), ResultClass.UNKNOWN)
    assert (last.status, last.reason) == (Status.UNKNOWN, Reason.ANSWER_LOST)


def test_unknown_is_resent_a_few_times_where_it_is_asked_for() -> None:
    """An OTP that comes twice is better than none; one that comes nine times is not."""
    for failures in range(5):
        decision = after(step(resend_unknown=True, failures=failures), ResultClass.UNKNOWN)
        assert (decision.due_at is not None) is (failures < 2)


def test_unknown_that_is_held_stops_the_chain() -> None:
    """It may have arrived; the next channel would show it a second time."""
    decision = after(step(), ResultClass.UNKNOWN)
    assert decision == Decision(Status.UNKNOWN, Reason.ANSWER_LOST)
    assert not decision.falls_back


def test_unknown_without_time_for_a_resend_stays_unknown() -> None:
    """And is not called expired: it may have arrived."""
    decision = after(step(idempotent=True, expires_at=NOW + timedelta(milliseconds=1)), ResultClass.UNKNOWN)
    assert decision.status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("result", "status", "reason", "falls_back", "suppresses"),
    [
        ("RECIPIENT", "failed", "recipient_refused", "yes", "yes"),
        ("PERMANENT", "failed", "content_refused", "yes", "no"),
        ("OK", "sent", None, "no", "no"),
    ],
)
def test_what_ends_a_step(result: str, status: str, reason: str | None, falls_back: str, suppresses: str) -> None:
    """Only a dead address is suppressed: a refused text would otherwise close the address to everything."""
    found = after(step(), ResultClass(result))
    assert (found.status, found.reason, found.due_at) == (status, reason, None)
    assert (found.falls_back, found.suppresses) == (falls_back == "yes", suppresses == "yes")


def test_delivered_is_said_only_by_an_answer_that_proves_it() -> None:
    """`sent` means that the provider took it."""
    proof = decide(step(), SendResult(ResultClass.OK, delivered=True), now=NOW, spread=0)
    assert (proof.status, after(step(), ResultClass.OK).status) == (Status.DELIVERED, Status.SENT)


BOUNDED = (ResultClass.RETRY, ResultClass.RATE, ResultClass.CONFIG, ResultClass.TOKEN)
CHAINED = st.timedeltas(timedelta(minutes=-5), timedelta(days=2)).map(lambda d: NOW + d)


@given(steps, results, spreads, CHAINED)
def test_a_place_of_a_chain_is_not_tried_beyond_its_time(
    tried: AttemptedStep, result: SendResult, spread: float, falls_back_at: datetime
) -> None:
    """Nor sooner than the provider asked for, nor longer than it lives; then the chain goes on."""
    decision = decide(replace(tried, falls_back_at=falls_back_at), result, now=NOW, spread=spread)
    held = result.result is ResultClass.UNKNOWN and not tried.resend_unknown
    if decision.due_at is not None and not held:
        assert NOW < decision.due_at <= falls_back_at
        if result.result in BOUNDED and result.retry_after is not None:
            assert decision.due_at - NOW >= result.retry_after
    if decision.due_at is None and decision.status not in SUCCESS:
        assert decision.falls_back is not held


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (ResultClass.RETRY, Reason.NOT_TAKEN_IN_TIME),
        (ResultClass.RATE, Reason.NOT_TAKEN_IN_TIME),
        (ResultClass.CONFIG, Reason.ACCOUNT_MISCONFIGURED),
        (ResultClass.UNKNOWN, Reason.ANSWER_LOST),
    ],
)
def test_what_fails_after_its_time_is_the_next_channels(result: ResultClass, reason: Reason) -> None:
    over = step(falls_back_at=NOW, resend_unknown=True)
    ended = after(over, result)
    assert (ended.reason, ended.falls_back, ended.due_at) == (reason, True, None)
    assert after(replace(over, falls_back_at=None), result).due_at is not None
    if result is not ResultClass.UNKNOWN:
        moved = after(replace(over, elsewhere=True), result)
        assert moved.moves, "another account comes first"


def test_what_is_held_stays_with_its_channel() -> None:
    """An answer that is lost may have arrived: where nothing may show twice, no channel follows, however late it is."""
    known = step(falls_back_at=NOW, idempotent=True)
    assert after(known, ResultClass.UNKNOWN).due_at is not None, "who knows the delivery id is asked again"
    for held in (step(), replace(known, failures=99)):
        assert after(held, ResultClass.UNKNOWN) == Decision(Status.UNKNOWN, Reason.ANSWER_LOST, failures=held.failures)
