"""What follows from one attempt: the decision after a provider's answer, by the tables of `domain.retries`; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.lanes import Lane
from domain.receipts import why_failed
from domain.results import ResultClass, SendResult
from domain.retries import FOR_GOOD, JITTER, MOST_ATTEMPTS, RULES, Elsewhere, End, Rule, case_of
from domain.states import SUCCESS, Reason, Status, rank

AT_ONCE = timedelta(seconds=1)
"""Subtracted from `now`, which is a guess at the database's clock, for what shall be due whatever the guess is worth."""
LONGEST_WAIT = timedelta(days=3650)
"""Longer than any notification lives: whatever a provider states, nothing overflows."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """The receipt that a step waits for after the provider has taken it."""

    status: Status
    """DELIVERED or READ."""
    within: timedelta

    def met_by(self, status: Status) -> bool:
        return status in SUCCESS and rank(status) >= rank(self.status)


@dataclass(frozen=True, slots=True)
class AttemptedStep:
    """What the decision needs to know of the step that was tried."""

    lane: Lane
    failures: int
    """Counted failures so far (RATE counts none)."""
    expires_at: datetime
    resend_unknown: bool
    """`on_unknown`: send again (True) or hold (False)."""
    idempotent: bool
    """The provider recognises a repeated delivery id."""
    elsewhere: bool = False
    """Another account of the channel is usable and was not tried since the last wait."""
    awaits: Awaited | None = None
    """What must come in time, where something follows if it does not."""
    attempt: int = 1
    """The number of the claim: of all that were made, whatever came of them."""
    throttled: timedelta | None = None
    """The claim before this one was answered RATE too; so long after that it was due again."""
    falls_back_at: datetime | None = None
    """When its chain goes on, if nobody has taken it by then; None: it has no next place, or waits for whatever comes."""

    def time_left(self, now: datetime) -> timedelta | None:
        return None if self.falls_back_at is None else self.falls_back_at - now


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a step after an attempt."""

    status: Status
    reason: Reason | None = None
    due_at: datetime | None = None
    """When the next attempt is due; None ends the step."""
    failures: int = 0
    falls_back: bool = False
    """The next place of a fallback chain is opened."""
    suppresses: bool = False
    """The address goes on the suppression list."""
    moves: bool = False
    """The next attempt goes over another account."""
    awaiting: bool = False
    """The provider took it; at `due_at` its receipt is overdue."""


def decide(step: AttemptedStep, result: SendResult, *, now: datetime, spread: float) -> Decision:
    """The decision after `result`. `spread` in [0, 1) is the jitter's random number, given so that a test can decide it."""
    if result.result is ResultClass.OK:
        return _taken(step, Status.DELIVERED if result.delivered else Status.SENT, now=now)
    rule = RULES[case_of(result, recognised=step.idempotent, resend=step.resend_unknown)]
    decision = _after(step, rule, result, now=now, spread=spread)
    refused = decision.status is Status.RETRYING and result.result is not ResultClass.UNKNOWN
    if refused and step.attempt >= MOST_ATTEMPTS:
        return _failed(step, Reason.RETRIES_EXHAUSTED)
    return decision


def _after(step: AttemptedStep, rule: Rule, result: SendResult, *, now: datetime, spread: float) -> Decision:
    """Over another account, later, or its end. Later is after the wait that was stated, and not before our own. Where a
    chain goes on before that, it is tried a last time at that moment; or not again, because what was stated is never
    cut short."""
    if step.elsewhere and rule.elsewhere is Elsewhere.AT_ONCE:
        return _moved(step, now=now)
    waits = rule.waits(step.lane)
    if rule.counts and step.failures >= len(waits):
        return _ended(step, rule, rule.ends.tried)
    stated = _stated(result, spread) if rule.stated else timedelta(0)
    wait = max(_own(step, rule, waits, now=now, spread=spread), stated)
    left = step.time_left(now) if rule.falls_back else None
    if left is not None:
        if left <= timedelta(0) or stated > left:
            return _ended(step, rule, rule.ends.late)
        wait = min(wait, left)
    if wait >= step.expires_at - now:
        return _ended(step, rule, rule.ends.expired)
    moves = step.elsewhere and rule.elsewhere is Elsewhere.AFTER_WAIT
    return Decision(Status.RETRYING, due_at=now + wait, failures=step.failures + rule.counts, moves=moves)


def overdue(step: AttemptedStep, *, now: datetime, failed: ResultClass | None = None) -> Decision:
    """The receipt has not come in time, or said that it `failed`: another account, or the next place of the chain. What was
    sent and not reported stays sent."""
    if failed is not None:
        return _reported(step, failed, now=now)
    if step.elsewhere and step.awaits is not None and step.awaits.status is Status.DELIVERED:
        return _moved(step, now=now, status=Status.SENT)
    return Decision(Status.SENT, failures=step.failures, falls_back=True)


def _reported(step: AttemptedStep, failed: ResultClass, *, now: datetime) -> Decision:
    """As the same answer at once would have been, but that the same account is not asked again."""
    if step.elsewhere and failed not in FOR_GOOD:
        return _moved(step, now=now)
    return _failed(step, why_failed(failed), suppresses=failed is ResultClass.RECIPIENT)


def _taken(step: AttemptedStep, status: Status, *, now: datetime) -> Decision:
    """Handed over. It waits for a receipt only where something would follow in time."""
    awaits = step.awaits
    if awaits is None or awaits.met_by(status) or awaits.within >= step.expires_at - now:
        return Decision(status, failures=step.failures)
    return Decision(status, due_at=now + awaits.within, failures=step.failures, awaiting=True)


def _moved(step: AttemptedStep, *, now: datetime, status: Status = Status.RETRYING) -> Decision:
    """At once, over another account; that is no attempt more by the retry table."""
    return Decision(status, due_at=now - AT_ONCE, failures=step.failures, moves=True)


def _ended(step: AttemptedStep, rule: Rule, end: End) -> Decision:
    """By its rule. What may have been taken is no failure."""
    failures = step.failures + (rule.counts and end.status is not Status.UNKNOWN)
    return Decision(*end, failures=failures, falls_back=rule.falls_back, suppresses=rule.suppresses)


def _failed(step: AttemptedStep, reason: Reason, *, suppresses: bool = False) -> Decision:
    return Decision(Status.FAILED, reason, failures=step.failures + 1, falls_back=True, suppresses=suppresses)


def _own(step: AttemptedStep, rule: Rule, waits: tuple[timedelta, ...], *, now: datetime, spread: float) -> timedelta:
    """The wait by the tables. Where no try is used up it grows with each such answer in a row, so that a second that is
    stated each time does not make a hundred thousand attempts; and nothing expires because it was put off too far."""
    if rule.counts:
        return _jittered(waits[step.failures], spread, only_later=rule.only_later)
    before = min(_in_a_row(step, waits), len(waits) - 1)
    own = _jittered(waits[before], spread, only_later=rule.only_later)
    return min(own, max(waits[0], (step.expires_at - now) / 2))


def _in_a_row(step: AttemptedStep, waits: tuple[timedelta, ...]) -> int:
    """How often it was told to wait, right before this answer. Nobody counts that. It is no more than the claims that were
    no failure, of which many are no attempts (looks at a stopped account, what went back); nor than the places of the
    table that the last wait has gone through, with room for what spreads it and for how late it was written."""
    if step.throttled is None:
        return 0
    gone_through = sum(wait <= 1.5 * step.throttled for wait in waits)
    return min(max(0, step.attempt - 1 - step.failures), gone_through)


def _stated(result: SendResult, spread: float) -> timedelta:
    """The wait that the provider stated, never cut short; zero where it stated none that lies ahead."""
    wait = min(result.retry_after or timedelta(0), LONGEST_WAIT)
    return _jittered(wait, spread, only_later=True) if wait > timedelta(0) else timedelta(0)


def _jittered(wait: timedelta, spread: float, *, only_later: bool = False) -> timedelta:
    low = 1.0 if only_later else 1.0 - JITTER
    return wait * (low + (1.0 + JITTER - low) * spread)
