"""What the outcome of an attempt makes of its step, by what is known of the step at the moment of recording.

A worker decides what follows from an answer (`domain.attempts`) without a look at the database. Meanwhile the claim may
have been called lost, its resend may wait or be under way, a receipt may have come, and a person may have stopped all of
it. What really happened is recorded in each case; what follows is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from domain.attempts import Awaited, Decision
from domain.lost import NOTHING_LOST, Lost
from domain.results import ResultClass
from domain.states import FINAL, SUCCESS, Reason, Status, merge
from domain.timeline import EventType
from domain.work_row import ON_TOP, Fate, WorkState

_FOR_GOOD = frozenset({Reason.RECIPIENT_REFUSED, Reason.CONTENT_REFUSED, Reason.ENDPOINT_REFUSED, Reason.MAILBOX_FULL})
_MAY_FAIL = frozenset({Status.SENT, Status.UNKNOWN})
"""Ends that a receipt may correct to a failure."""
CANCELLED = (Status.CANCELLED, Reason.CANCELLED_BY_REQUEST)


@dataclass(frozen=True, slots=True)
class KnownStep:
    """A step as the database knows it."""

    state: WorkState | None
    """Of its open row; None: there is none, the step has ended."""
    attempt: int | None = None
    """Of the open row: the number of its last claim."""
    awaiting: bool = False
    """Of the open row: it was handed over, and waits for a receipt."""
    receipt: str | None = None
    """Of the open row: what a receipt has said."""
    status: Status | None = None
    """Of its record; None: there is none."""
    reason: str | None = None
    attempts: int = 0
    """Of its record: the number of the last attempt that is in it."""
    lost: Lost = NOTHING_LOST
    """Attempts of it that may have arrived, by all that is known with what is recorded now."""
    settled: bool = False
    """There were such attempts, and now it is known of the last of them that it did not arrive."""
    was_lost: bool = False
    """The attempt that is recorded now was one of them until now."""


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """What became of one attempt, and what its worker has decided."""

    attempt: int
    decision: Decision
    result: ResultClass | None
    """None: nothing was handed over."""
    looked: bool = False
    """The claim was only to see that a receipt is overdue."""
    receipt: str | None = None
    """What a receipt had said when it was claimed."""
    has_next: bool = False
    """Its chain has places left."""
    awaits: Awaited | None = None
    """The receipt that must come, or something follows."""
    reported: bool = False
    """The provider reports later what becomes of it."""
    assumed: bool = False
    """Nobody knows what became of it, so that it counts as unknown."""
    resends_unknown: bool = False
    """It was asked for that what may have arrived is sent again."""

    @property
    def puts_off(self) -> bool:
        """It was not tried and is due later."""
        return self.result is None and self.decision.due_at is not None


@dataclass(frozen=True, slots=True)
class Recording:
    """What is written down."""

    fate: Fate
    """Of its open row. KEEP: it has gone, belongs to a later attempt, or was written before."""
    status: Status | None
    """The record's state from now on; None changes nothing."""
    reason: Reason | None = None
    """Why, unless it arrived."""
    opens_next: bool = False
    """The next place of the chain is opened."""
    on_top: bool = False
    """Sent again, mostly over another account, although an earlier message was taken: its receipt has not come."""
    may_resume: bool = False
    """It ends here with places of its chain left, and a receipt may say that it failed."""
    because: Reason | None = None
    """Why it ends as unknown where that is not this attempt's doing: an earlier one may have arrived."""

    @property
    def goes_on(self) -> bool:
        """Something is to be handed over, or looked at, later."""
        return self.opens_next or self.fate in {Fate.AGAIN, Fate.WAIT}

    def tells(self, kind: EventType) -> bool:
        """Whether this entry of the timeline is true: that it goes on elsewhere, only where it does."""
        if kind is EventType.FALLBACK:
            return self.opens_next
        return kind is not EventType.FAILOVER or self.fate is Fate.AGAIN


def gives_way(known: KnownStep, outcome: AttemptOutcome) -> bool:
    """An assumption counts only while its claim is open: whatever was recorded meanwhile is better. What happened is always
    recorded."""
    return outcome.assumed and not _in_hand(known, outcome)


def record(known: KnownStep, outcome: AttemptOutcome) -> Recording:
    """What `outcome` makes of the step. The same again, after it was recorded, changes nothing."""
    return _current(known, outcome) if _in_hand(known, outcome) else _late(known, outcome)


def stopped(
    decision: Decision,
    *,
    lost: bool,
    end: tuple[Status, Reason] = CANCELLED,
) -> Decision:
    """The same where nothing may follow any more: what was in flight keeps its outcome, but neither a retry nor a fallback
    comes after it. `lost`: the answer was; `end`: what it ends as where it would have been tried again."""
    if decision.due_at is None:
        return replace(decision, falls_back=False)
    if decision.status in SUCCESS:  # it was taken, and nobody waits for its receipt any more
        return replace(decision, falls_back=False, due_at=None, awaiting=False, moves=False)
    status, reason = (Status.UNKNOWN, Reason.ANSWER_LOST) if lost else end
    return Decision(status, reason, failures=decision.failures)


def _current(known: KnownStep, outcome: AttemptOutcome) -> Recording:
    """Its claim is the open one."""
    told, outcome = outcome.decision, _as_known(known, outcome)
    decision, arrived = outcome.decision, _arrived(known, outcome)
    if not arrived and _looks_again(known, outcome):
        return _recording(outcome, Fate.LOOK, _current_status(known, outcome, ends=False))
    if not arrived and _waits(known, outcome):
        return _recording(outcome, Fate.WAIT, _current_status(known, outcome, ends=False))
    fate = Fate.END if arrived or decision.due_at is None else Fate.AGAIN
    recording = _recording(
        outcome,
        fate,
        _current_status(known, outcome, ends=fate is Fate.END),
        opens_next=not arrived and decision.falls_back and outcome.has_next,
        on_top=fate is Fate.AGAIN and known.status in SUCCESS and not decision.awaiting,
    )
    return _because(recording, told, decision)


def _late(known: KnownStep, outcome: AttemptOutcome) -> Recording:
    """Its claim was called lost: a resend waits or is under way, or the step has ended."""
    settles, told = _settles(known, outcome), outcome.decision
    outcome = _as_known(known, outcome)
    if settles:
        status = None if _recalled(known) else outcome.decision.status
        opens_next = outcome.decision.falls_back and outcome.has_next
        return _because(_recording(outcome, Fate.END, status, opens_next=opens_next), told, outcome.decision)
    fate = Fate.KEEP
    if _outruns_its_resend(known, outcome):
        fate = Fate.AGAIN if outcome.decision.awaiting else Fate.END
    return _recording(outcome, fate, _late_status(known, outcome))


def _as_known(known: KnownStep, outcome: AttemptOutcome) -> AttemptOutcome:
    """The step ends by this attempt, and does not arrive by it: while an earlier one may have arrived, that is not known to
    be its end. Its chain goes on as after any lost answer: where sending again was asked for."""
    decision = outcome.decision
    if not known.lost or decision.due_at is not None or decision.status in SUCCESS:
        return outcome
    falls_back = decision.falls_back and outcome.resends_unknown
    kept = replace(decision, status=Status.UNKNOWN, reason=Reason.ANSWER_LOST, falls_back=falls_back)
    return replace(outcome, decision=kept)


def _because(recording: Recording, told: Decision, decision: Decision) -> Recording:
    """`told`: what the worker has decided; `decision`: what that comes to by all that is known."""
    kept = recording.status is Status.UNKNOWN and told.status is not decision.status
    return replace(recording, because=told.reason) if kept else recording


def _recording(
    outcome: AttemptOutcome, fate: Fate, status: Status | None, *, opens_next: bool = False, on_top: bool = False
) -> Recording:
    reason = None
    if status is not None and status not in SUCCESS:
        # An answer that asks for a retry after its step was closed comes too late for one.
        reason = outcome.decision.reason or (Reason.ANSWER_LOST if status is Status.FAILED else None)
    over = fate is Fate.END and not opens_next and status in _MAY_FAIL
    return Recording(fate, status, reason, opens_next, on_top, over and outcome.has_next and outcome.reported)


def _in_hand(known: KnownStep, outcome: AttemptOutcome) -> bool:
    return known.state is WorkState.IN_HAND and known.attempt == outcome.attempt


def _recalled(known: KnownStep) -> bool:
    """It was taken back while this was on its way, and will not be seen."""
    return known.reason == Reason.RECALLED_BY_REQUEST


def _arrived(known: KnownStep, outcome: AttemptOutcome) -> bool:
    """An earlier attempt of this step is known to have succeeded: nothing may follow this one. Where a receipt is waited
    for, the provider's taking it is not enough."""
    if known.status is None or known.status not in SUCCESS:
        return False
    return outcome.awaits is None or outcome.awaits.met_by(known.status)


def _looks_again(known: KnownStep, outcome: AttemptOutcome) -> bool:
    """A receipt has come meanwhile that this look knows nothing of."""
    return outcome.looked and known.receipt != outcome.receipt


def _waits(known: KnownStep, outcome: AttemptOutcome) -> bool:
    """It was lost and has been taken after all, or was delivered and is to be read, while this attempt was under way, which
    did not arrive: neither another attempt nor the next place may follow before its receipt is overdue. Where it is (this
    went out `on_top`), only a delivery is news."""
    decision = outcome.decision
    goes_on = decision.due_at is not None or (decision.falls_back and outcome.has_next)
    if outcome.looked or decision.status in SUCCESS or not goes_on:
        return False
    return known.status is Status.DELIVERED or (known.status is Status.SENT and known.receipt != ON_TOP)


def _settles(known: KnownStep, outcome: AttemptOutcome) -> bool:
    """An attempt that was called lost was refused for good: its resend, which has not begun, cannot help."""
    decision = outcome.decision
    if decision.status is not Status.FAILED or decision.reason not in _FOR_GOOD or outcome.result is None:
        return False
    waits = known.state is WorkState.OPEN and not known.awaiting and known.status is Status.RETRYING
    return waits and known.attempts == outcome.attempt


def _outruns_its_resend(known: KnownStep, outcome: AttemptOutcome) -> bool:
    """It succeeded after it was given up, and before its resend began."""
    if known.state is not WorkState.OPEN or outcome.decision.status not in SUCCESS or _is_awaited(known, outcome):
        return False
    return known.attempt is not None and known.attempt >= outcome.attempt


def _is_awaited(known: KnownStep, outcome: AttemptOutcome) -> bool:
    """It was recorded before, and its receipt is waited for or has come: when something follows stays as it is by now."""
    waits = known.awaiting and outcome.decision.awaiting
    return waits and not known.was_lost and known.attempts >= outcome.attempt


def _current_status(known: KnownStep, outcome: AttemptOutcome, *, ends: bool) -> Status | None:
    if outcome.puts_off or _recalled(known):
        return None  # nothing was tried, and what an earlier attempt brought stands
    news = outcome.decision.status
    if outcome.looked:  # it hands nothing over: the step ends as it is known, or as its receipt says
        return news if known.status is Status.RETRYING and ends and news not in SUCCESS else None
    return merge(known.status, news) if known.status in SUCCESS else news


def _late_status(known: KnownStep, outcome: AttemptOutcome) -> Status | None:
    if outcome.puts_off or _recalled(known):
        return None
    news, status = outcome.decision.status, known.status
    if status is Status.UNKNOWN and outcome.result is None and not outcome.looked:
        return None  # nothing was handed over, whatever was assumed of it: who opens the step again judges anew
    if known.state is not None and news not in SUCCESS:
        return None  # a later attempt is open and will say how it ends
    if status is None:
        return news if news in SUCCESS else None
    if status is Status.RETRYING and news in SUCCESS:
        return news
    if status is Status.UNKNOWN and not known.lost and (known.settled or known.attempts == outcome.attempt):
        return news if news in FINAL else Status.FAILED
    better = merge(status, news)
    return better if better is not status else None
