"""What an outcome makes of its step, as tables: one row a situation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.attempts import Awaited, Decision
from domain.lost import LostAttempt
from domain.recording import AttemptOutcome, KnownStep, Recording, gives_way, record, stopped
from domain.results import ResultClass
from domain.states import FINAL, SUCCESS, Reason, Status, rank
from domain.timeline import EventType
from domain.work_row import ON_TOP, Fate, WorkState

LATER = datetime(2026, 1, 1, tzinfo=UTC)
READ_WITHIN = Awaited(Status.READ, timedelta(minutes=5))

SENT = AttemptOutcome(1, Decision(Status.SENT), ResultClass.OK)
AWAITING = AttemptOutcome(1, Decision(Status.SENT, due_at=LATER, awaiting=True), ResultClass.OK, awaits=READ_WITHIN)
RETRY = AttemptOutcome(1, Decision(Status.RETRYING, due_at=LATER, failures=1), ResultClass.RETRY)
FALLS_BACK = AttemptOutcome(
    1, Decision(Status.FAILED, Reason.RETRIES_EXHAUSTED, falls_back=True), ResultClass.RETRY, has_next=True
)
REFUSED = AttemptOutcome(1, Decision(Status.FAILED, Reason.RECIPIENT_REFUSED, falls_back=True), ResultClass.RECIPIENT)
LOST = AttemptOutcome(1, Decision(Status.UNKNOWN, Reason.ANSWER_LOST), ResultClass.UNKNOWN, assumed=True)
PUT_OFF = AttemptOutcome(1, Decision(Status.SCHEDULED, due_at=LATER), None)
EXPIRED = AttemptOutcome(1, Decision(Status.EXPIRED, Reason.EXPIRED_BEFORE_HAND_OVER), None)
OVERDUE = AttemptOutcome(2, Decision(Status.SENT, falls_back=True), None, looked=True, has_next=True, awaits=READ_WITHIN)

MINE = KnownStep(WorkState.IN_HAND, 1)
RESEND_WAITS = KnownStep(WorkState.OPEN, 1, status=Status.RETRYING, attempts=1)
RESEND_UNDER_WAY = KnownStep(WorkState.IN_HAND, 2, status=Status.RETRYING, attempts=1)
LOOKED_AT = KnownStep(WorkState.IN_HAND, 2, awaiting=True, status=Status.SENT, attempts=1)
RECEIPT_AWAITED = KnownStep(WorkState.OPEN, 1, awaiting=True, status=Status.SENT, attempts=1)
RECALLED = KnownStep(None, status=Status.CANCELLED, reason=Reason.RECALLED_BY_REQUEST, attempts=1)

ONE_LOST = (LostAttempt(1, "a"),)
RESENT = replace(RESEND_UNDER_WAY, attempt=2, lost=ONE_LOST)
"""The first attempt may have arrived, and the second is under way."""
LAST = replace(FALLS_BACK, attempt=2)
TAKEN_MEANWHILE = replace(RESEND_UNDER_WAY, status=Status.SENT)
"""The first attempt's answer came after its resend had begun."""


def ended(status: Status) -> KnownStep:
    return KnownStep(None, status=status, attempts=1)


CURRENT = {
    "taken": (MINE, SENT, Recording(Fate.END, Status.SENT)),
    "taken, and its receipt is waited for": (MINE, AWAITING, Recording(Fate.AGAIN, Status.SENT)),
    "to be tried again": (MINE, RETRY, Recording(Fate.AGAIN, Status.RETRYING)),
    "failed, and the chain goes on": (
        MINE, FALLS_BACK, Recording(Fate.END, Status.FAILED, Reason.RETRIES_EXHAUSTED, opens_next=True),
    ),
    "failed at the chain's last place": (MINE, REFUSED, Recording(Fate.END, Status.FAILED, Reason.RECIPIENT_REFUSED)),
    "its answer was lost": (MINE, LOST, Recording(Fate.END, Status.UNKNOWN, Reason.ANSWER_LOST)),
    "not tried": (MINE, PUT_OFF, Recording(Fate.AGAIN, None)),
    "not tried any more": (MINE, EXPIRED, Recording(Fate.END, Status.EXPIRED, Reason.EXPIRED_BEFORE_HAND_OVER)),
    "taken by who reports, with places left": (
        MINE, replace(SENT, has_next=True, reported=True), Recording(Fate.END, Status.SENT, may_resume=True),
    ),
    "an earlier attempt had arrived": (
        replace(MINE, status=Status.DELIVERED), RETRY, Recording(Fate.END, Status.DELIVERED),
    ),
    "an earlier one was delivered while this was refused": (
        replace(MINE, status=Status.DELIVERED), FALLS_BACK, Recording(Fate.END, Status.DELIVERED),
    ),
    "an earlier one was delivered, and reading is waited for": (
        replace(MINE, status=Status.DELIVERED), replace(RETRY, awaits=READ_WITHIN),
        Recording(Fate.WAIT, Status.DELIVERED),
    ),
    "once more beside one whose receipt is overdue": (
        replace(MINE, status=Status.SENT, receipt=ON_TOP), replace(RETRY, awaits=READ_WITHIN),
        Recording(Fate.AGAIN, Status.SENT, on_top=True),
    ),
    "refused for good beside one whose receipt is overdue": (
        replace(MINE, status=Status.SENT, receipt=ON_TOP), replace(FALLS_BACK, awaits=READ_WITHIN),
        Recording(Fate.END, Status.SENT, opens_next=True),
    ),
    "refused beside one whose receipt was overdue and that is delivered by now": (
        replace(MINE, status=Status.DELIVERED, receipt=ON_TOP), replace(FALLS_BACK, awaits=READ_WITHIN),
        Recording(Fate.WAIT, Status.DELIVERED),
    ),
    "to be tried again beside one that was taken meanwhile": (
        TAKEN_MEANWHILE, replace(RETRY, attempt=2, awaits=READ_WITHIN), Recording(Fate.WAIT, Status.SENT),
    ),
    "refused for good beside one that was taken meanwhile": (
        TAKEN_MEANWHILE, replace(LAST, awaits=READ_WITHIN), Recording(Fate.WAIT, Status.SENT),
    ),
    "lost beside one that was taken meanwhile, and sent again": (
        TAKEN_MEANWHILE,
        replace(RETRY, attempt=2, result=ResultClass.UNKNOWN, awaits=READ_WITHIN, resends_unknown=True),
        Recording(Fate.WAIT, Status.SENT),
    ),
    "cancelled beside one that was taken meanwhile": (
        TAKEN_MEANWHILE, replace(LAST, decision=stopped(RETRY.decision, lost=False), awaits=READ_WITHIN),
        Recording(Fate.END, Status.SENT),
    ),
    "taken as well": (TAKEN_MEANWHILE, replace(AWAITING, attempt=2), Recording(Fate.AGAIN, Status.SENT)),
    "it was recalled on its way": (
        replace(MINE, reason=Reason.RECALLED_BY_REQUEST), SENT, Recording(Fate.END, None),
    ),
    "no receipt came": (LOOKED_AT, OVERDUE, Recording(Fate.END, None, opens_next=True)),
    "no receipt came of the chain's last": (LOOKED_AT, replace(OVERDUE, has_next=False), Recording(Fate.END, None)),
    "a receipt came while it was looked at": (
        replace(LOOKED_AT, receipt="delivered", status=Status.DELIVERED), OVERDUE, Recording(Fate.LOOK, None),
    ),
    "it was read while it was looked at": (
        replace(LOOKED_AT, receipt="delivered", status=Status.READ), OVERDUE, Recording(Fate.END, None),
    ),
    "its receipt had said that it failed": (
        replace(LOOKED_AT, receipt="RECIPIENT", status=Status.RETRYING),
        replace(OVERDUE, receipt="RECIPIENT", decision=REFUSED.decision),
        Recording(Fate.END, Status.FAILED, Reason.RECIPIENT_REFUSED, opens_next=True),
    ),
    "failed for good, and an earlier one may have arrived": (
        RESENT, LAST, Recording(Fate.END, Status.UNKNOWN, Reason.ANSWER_LOST, because=Reason.RETRIES_EXHAUSTED),
    ),
    "the same where sending again was asked for": (
        RESENT, replace(LAST, resends_unknown=True),
        Recording(Fate.END, Status.UNKNOWN, Reason.ANSWER_LOST, opens_next=True, because=Reason.RETRIES_EXHAUSTED),
    ),
    "expired, and an earlier one may have arrived": (
        RESENT, replace(EXPIRED, attempt=2),
        Recording(Fate.END, Status.UNKNOWN, Reason.ANSWER_LOST, because=Reason.EXPIRED_BEFORE_HAND_OVER),
    ),
    "to be tried again, and an earlier one may have arrived": (
        RESENT, replace(RETRY, attempt=2), Recording(Fate.AGAIN, Status.RETRYING),
    ),
    "taken after one that may have arrived": (RESENT, replace(SENT, attempt=2), Recording(Fate.END, Status.SENT)),
    "lost as well": (RESENT, replace(LOST, attempt=2), Recording(Fate.END, Status.UNKNOWN, Reason.ANSWER_LOST)),
    "failed beside one that was taken and one that may have been": (
        replace(RESENT, status=Status.SENT), LAST, Recording(Fate.END, Status.SENT),
    ),
}  # fmt: skip
"""Its claim is the open one."""

LATE = {
    "taken after all, before its resend began": (RESEND_WAITS, SENT, Recording(Fate.END, Status.SENT)),
    "taken after all, and its receipt is waited for": (RESEND_WAITS, AWAITING, Recording(Fate.AGAIN, Status.SENT)),
    "told again while its receipt is waited for": (RECEIPT_AWAITED, AWAITING, Recording(Fate.KEEP, None)),
    "taken after all, beside one whose receipt is waited for": (
        replace(RECEIPT_AWAITED, was_lost=True), AWAITING, Recording(Fate.AGAIN, None),
    ),
    "taken after all, while its resend is under way": (RESEND_UNDER_WAY, SENT, Recording(Fate.KEEP, Status.SENT)),
    "refused for good, before its resend began": (
        RESEND_WAITS, REFUSED, Recording(Fate.END, Status.FAILED, Reason.RECIPIENT_REFUSED),
    ),
    "refused for good, with a chain": (
        RESEND_WAITS, replace(REFUSED, has_next=True),
        Recording(Fate.END, Status.FAILED, Reason.RECIPIENT_REFUSED, opens_next=True),
    ),
    "refused for good, while its resend is under way": (RESEND_UNDER_WAY, REFUSED, Recording(Fate.KEEP, None)),
    "refused for good, when a later attempt has failed as well": (
        replace(RESEND_WAITS, attempt=2, attempts=2), REFUSED, Recording(Fate.KEEP, None),
    ),
    "failed in passing, before its resend began": (RESEND_WAITS, RETRY, Recording(Fate.KEEP, None)),
    "it was called unknown, and was taken": (ended(Status.UNKNOWN), SENT, Recording(Fate.KEEP, Status.SENT)),
    "it was called unknown, and was refused": (
        ended(Status.UNKNOWN), REFUSED, Recording(Fate.KEEP, Status.FAILED, Reason.RECIPIENT_REFUSED),
    ),
    "it was called unknown, and would have been tried again": (
        ended(Status.UNKNOWN), RETRY, Recording(Fate.KEEP, Status.FAILED, Reason.ANSWER_LOST),
    ),
    "it has arrived by its receipt": (ended(Status.DELIVERED), SENT, Recording(Fate.KEEP, None)),
    "it was cancelled, and taken all the same": (ended(Status.CANCELLED), SENT, Recording(Fate.KEEP, Status.SENT)),
    "the step was never recorded, and is not open": (KnownStep(None), SENT, Recording(Fate.KEEP, Status.SENT)),
    "it was edited away": (KnownStep(None), RETRY, Recording(Fate.KEEP, None)),
    "it was recalled": (RECALLED, SENT, Recording(Fate.KEEP, None)),
    "refused for good before its resend began, and another one may have arrived": (
        replace(RESEND_WAITS, attempt=2, attempts=2, lost=ONE_LOST), replace(REFUSED, attempt=2, has_next=True),
        Recording(Fate.END, Status.UNKNOWN, Reason.ANSWER_LOST, because=Reason.RECIPIENT_REFUSED),
    ),
    "it was called unknown and was refused, and another one may have arrived": (
        replace(ended(Status.UNKNOWN), attempts=2, lost=ONE_LOST), replace(REFUSED, attempt=2), Recording(Fate.KEEP, None),
    ),
    "the last of those that may have arrived did not": (
        replace(ended(Status.UNKNOWN), attempts=2, settled=True), REFUSED,
        Recording(Fate.KEEP, Status.FAILED, Reason.RECIPIENT_REFUSED),
    ),
    "it was cancelled in between, and did not arrive": (
        replace(ended(Status.UNKNOWN), attempts=2, settled=True),
        replace(RETRY, decision=Decision(Status.CANCELLED, Reason.CANCELLED_BY_REQUEST)),
        Recording(Fate.KEEP, Status.CANCELLED, Reason.CANCELLED_BY_REQUEST),
    ),
}  # fmt: skip
"""Its claim was called lost, or the step has ended."""


@pytest.mark.parametrize("name", CURRENT)
def test_an_outcome_in_time(name: str) -> None:
    known, outcome, recording = CURRENT[name]
    assert record(known, outcome) == recording


@pytest.mark.parametrize("name", LATE)
def test_an_outcome_after_its_claim_was_called_lost(name: str) -> None:
    known, outcome, recording = LATE[name]
    assert record(known, outcome) == recording


@pytest.mark.parametrize("known", [RESEND_UNDER_WAY, RESEND_WAITS, ended(Status.SENT)])
def test_an_assumption_gives_way_and_what_happened_does_not(known: KnownStep) -> None:
    assert gives_way(known, LOST)
    assert not gives_way(known, replace(LOST, assumed=False))
    assert not gives_way(MINE, LOST)


STOPPED = {
    "nothing would follow": (Decision(Status.SENT), Decision(Status.SENT)),
    "the next channel": (
        Decision(Status.FAILED, Reason.RETRIES_EXHAUSTED, failures=3, falls_back=True),
        Decision(Status.FAILED, Reason.RETRIES_EXHAUSTED, failures=3),
    ),
    "a wait for its receipt": (
        Decision(Status.SENT, due_at=LATER, awaiting=True, moves=True, failures=1), Decision(Status.SENT, failures=1),
    ),
    "a retry": (
        Decision(Status.RETRYING, due_at=LATER, failures=2),
        Decision(Status.CANCELLED, Reason.CANCELLED_BY_REQUEST, failures=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_what_is_left_where_nothing_may_follow(name: str) -> None:
    decision, left = STOPPED[name]
    assert stopped(decision, lost=False) == left


def test_a_resend_that_is_stopped_leaves_what_happened() -> None:
    resend = Decision(Status.RETRYING, due_at=LATER, failures=1)
    assert stopped(resend, lost=True) == Decision(Status.UNKNOWN, Reason.ANSWER_LOST, failures=1)
    elsewhere = (Status.SUPPRESSED, Reason.ARRIVED_ELSEWHERE)
    assert stopped(resend, lost=False, end=elsewhere) == Decision(*elsewhere, failures=1)


def test_the_timeline_tells_that_it_goes_on_only_where_it_does() -> None:
    every = (EventType.ATTEMPT, EventType.FALLBACK, EventType.FAILOVER)
    told = {
        name: [kind for kind in every if recording.tells(kind)]
        for name, recording in {
            "ends": Recording(Fate.END, Status.FAILED),
            "next channel": Recording(Fate.END, Status.FAILED, opens_next=True),
            "other account": Recording(Fate.AGAIN, Status.RETRYING),
        }.items()
    }
    assert told == {
        "ends": [EventType.ATTEMPT],
        "next channel": [EventType.ATTEMPT, EventType.FALLBACK],
        "other account": [EventType.ATTEMPT, EventType.FAILOVER],
    }


@st.composite
def outcomes(draw: st.DrawFn) -> AttemptOutcome:
    one = draw(st.sampled_from([o for _, o, _ in (*CURRENT.values(), *LATE.values())]))
    return replace(one, attempt=draw(st.integers(1, 3)))


@st.composite
def steps(draw: st.DrawFn) -> KnownStep:
    state = draw(st.sampled_from([None, *WorkState]))
    status = draw(st.sampled_from([None, Status.RETRYING, *sorted(FINAL)]))
    attempts = draw(st.integers(1, 3)) if status is not None else 0
    if state is None:
        return KnownStep(None, status=status, attempts=attempts)
    receipt = draw(st.sampled_from([None, "delivered", ON_TOP, ResultClass.RETRY]))
    return KnownStep(state, draw(st.integers(1, 3)), draw(st.booleans()), receipt, status, None, attempts)


@given(steps(), outcomes())
def test_evidence_never_gives_way_to_less(known: KnownStep, outcome: AttemptOutcome) -> None:
    recording = record(known, outcome)
    if known.status in SUCCESS and recording.status is not None:
        assert known.status is not None
        assert rank(recording.status) >= rank(known.status)
    assert (recording.reason is None) or recording.status not in SUCCESS


@given(steps(), outcomes())
def test_what_may_have_arrived_is_never_said_not_to_have(known: KnownStep, outcome: AttemptOutcome) -> None:
    known = replace(known, lost=(*ONE_LOST, LostAttempt(4, "a")))
    recording = record(known, outcome)
    assert recording.status in {None, Status.RETRYING, Status.UNKNOWN, *SUCCESS}
    fell_back = recording.opens_next and recording.status is Status.UNKNOWN
    assert not fell_back or outcome.resends_unknown or outcome.result is ResultClass.UNKNOWN


@given(steps(), outcomes())
def test_what_is_in_anothers_hands_stays_there(known: KnownStep, outcome: AttemptOutcome) -> None:
    if known.state is WorkState.IN_HAND and known.attempt != outcome.attempt:
        assert record(known, outcome).fate is Fate.KEEP
        assert not record(known, outcome).goes_on


@given(steps(), outcomes())
def test_a_repeated_flush_records_nothing_more(known: KnownStep, outcome: AttemptOutcome) -> None:
    """The first is the truth; the same again opens no channel twice and says nothing else."""
    assume(not outcome.looked or (known.awaiting and known.status in SUCCESS))
    first = record(known, outcome)
    attempts = max(known.attempts, outcome.attempt if outcome.result is not None else outcome.attempt - 1)
    status = known.status if first.status is None else first.status
    after = replace(known, status=status, attempts=attempts if first.status is not None else known.attempts)
    if first.fate is Fate.END:
        after = KnownStep(None, status=status, attempts=after.attempts)
    elif first.fate is not Fate.KEEP:
        awaiting = outcome.decision.awaiting or first.fate in {Fate.LOOK, Fate.WAIT}
        after = replace(after, state=WorkState.OPEN, awaiting=awaiting)
    again = record(after, outcome)
    assert not again.opens_next
    assert again.status in (None, status)
