"""What follows from one attempt: the decision after a provider's answer, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.lanes import POLICIES, Lane
from domain.receipts import why_failed
from domain.results import ResultClass, SendResult
from domain.states import SUCCESS, Reason, Status, rank

JITTER = 0.2
"""Waits are spread by this share to both sides, so that what failed together does not come back together."""
CONFIG_WAIT = timedelta(seconds=60)
"""An account that an operator has to mend is asked again this often; it costs an attempt."""
AT_ONCE = timedelta(seconds=1)
"""Subtracted from `now`, which is a guess at the database's clock, for what shall be due whatever the guess is worth."""
LONGEST_WAIT = timedelta(days=3650)
"""Longer than any notification lives: whatever a provider states, nothing overflows."""
MOST_UNKNOWN_RESENDS = 2
"""Where a provider cannot recognise a repetition, each resend of an unknown may show once more."""
LONGEST_THROTTLE = timedelta(minutes=5)
"""Who is told again and again to wait, and not for how long, asks this often in the end: 288 times a day."""
MOST_ATTEMPTS = 30_000
"""The number of a claim is a smallint wherever it stands. By `LONGEST_THROTTLE` even 90 days do not come near it."""
ASIDE_WAITS = tuple(timedelta(seconds=s) for s in (10, 60, 300, 900, 3600))
"""How long a row that one version cannot read waits for another one, time after time: a deploy, also a slow one."""


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


@dataclass(frozen=True, slots=True)
class Aside:
    """What becomes of a row that this version cannot read: it waits, or ends. Neither: it is left as it is."""

    wait: timedelta | None = None
    status: Status | None = None
    reason: Reason | None = None


def aside(*, faults: int, attempt: int, expired: bool, cancelled: bool) -> Aside:
    """Others may be able to read it (`ASIDE_WAITS`), as long as somebody wants it. Nothing of it was handed over."""
    if cancelled:
        return Aside(status=Status.CANCELLED, reason=Reason.CANCELLED_BY_REQUEST)
    if expired:
        return Aside(status=Status.EXPIRED, reason=Reason.EXPIRED_BEFORE_HAND_OVER)
    if faults >= len(ASIDE_WAITS) or attempt >= MOST_ATTEMPTS:
        return Aside(status=Status.FAILED, reason=Reason.QUARANTINED)
    return Aside(wait=ASIDE_WAITS[faults])


def decide(step: AttemptedStep, result: SendResult, *, now: datetime, spread: float) -> Decision:
    """The decision after `result`. `spread` in [0, 1) is the jitter's random number, given so that a test can decide it."""
    decision = _decide(step, result, now=now, spread=spread)
    refused = decision.status is Status.RETRYING and result.result is not ResultClass.UNKNOWN
    if refused and step.attempt >= MOST_ATTEMPTS:
        return _failed(step, Reason.RETRIES_EXHAUSTED)
    return decision


def _decide(step: AttemptedStep, result: SendResult, *, now: datetime, spread: float) -> Decision:
    match result.result:
        case ResultClass.OK:
            return _taken(step, Status.DELIVERED if result.delivered else Status.SENT, now=now)
        case ResultClass.RECIPIENT:
            return _failed(step, Reason.RECIPIENT_REFUSED, suppresses=True)
        case ResultClass.PERMANENT:
            return _failed(step, Reason.CONTENT_REFUSED)
        case ResultClass.UNKNOWN:
            return _unknown(step, now=now, spread=spread)
        case ResultClass.RATE:
            if step.elsewhere:
                return _moved(step, now=now)
            own = _throttled(step, now=now, spread=spread)
            return _again(step, result, now=now, own=own, spread=spread, failures=step.failures)
        case _:
            return _retry(step, result, now=now, spread=spread)


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
    if step.elsewhere and failed not in {ResultClass.RECIPIENT, ResultClass.PERMANENT}:
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


def _retry(step: AttemptedStep, result: SendResult, *, now: datetime, spread: float) -> Decision:
    if step.elsewhere and not result.of_recipient:
        return _moved(step, now=now)
    retries = POLICIES[step.lane].retries
    config = result.result is ResultClass.CONFIG
    if step.failures >= len(retries):
        return _failed(step, Reason.ACCOUNT_MISCONFIGURED if config else Reason.RETRIES_EXHAUSTED)
    own = _jittered(max(retries[step.failures], CONFIG_WAIT if config else timedelta(0)), spread)
    return _again(step, result, now=now, own=own, spread=spread, failures=step.failures + 1)


def _again(
    step: AttemptedStep, result: SendResult, *, now: datetime, own: timedelta, spread: float, failures: int
) -> Decision:
    """Later: after the wait that was stated, and not before `own`. Where a chain goes on before that, it is tried a last
    time at that moment; or not again, because what was stated is never cut short."""
    stated, left = _stated(result, spread), step.time_left(now)
    wait = max(own, stated)
    if left is not None:
        if left <= timedelta(0) or stated > left:
            return _not_in_time(result, failures=failures)
        wait = min(wait, left)
    if wait >= step.expires_at - now:
        return Decision(Status.EXPIRED, Reason.EXPIRED_BEFORE_RETRY, failures=failures, falls_back=True)
    return Decision(Status.RETRYING, due_at=now + wait, failures=failures)


def _not_in_time(result: SendResult, *, failures: int) -> Decision:
    config = result.result is ResultClass.CONFIG
    reason = Reason.ACCOUNT_MISCONFIGURED if config else Reason.NOT_TAKEN_IN_TIME
    return Decision(Status.FAILED, reason, failures=failures, falls_back=True)


def _unknown(step: AttemptedStep, *, now: datetime, spread: float) -> Decision:
    """Send again where that cannot show twice, or a few times where it is asked for. Otherwise stop here and say so: a
    chain goes on only where sending again was asked for, because the next channel may show it twice as well."""
    retries = POLICIES[step.lane].retries
    most = len(retries) if step.idempotent else min(MOST_UNKNOWN_RESENDS, len(retries)) if step.resend_unknown else 0
    left = step.time_left(now) if step.resend_unknown else None
    if step.failures < most and (left is None or left > timedelta(0)):
        wait = _jittered(retries[step.failures], spread)
        due_at = now + (wait if left is None else min(wait, left))
        if due_at < step.expires_at:
            elsewhere = step.elsewhere and not step.idempotent  # who knows the delivery id is asked again
            return Decision(Status.RETRYING, due_at=due_at, failures=step.failures + 1, moves=elsewhere)
    return Decision(Status.UNKNOWN, Reason.ANSWER_LOST, failures=step.failures, falls_back=step.resend_unknown)


def _failed(step: AttemptedStep, reason: Reason, *, suppresses: bool = False) -> Decision:
    return Decision(Status.FAILED, reason, failures=step.failures + 1, falls_back=True, suppresses=suppresses)


def _throttled(step: AttemptedStep, *, now: datetime, spread: float) -> timedelta:
    """The least wait after an answer that asks for one: along the retry table with each such answer in a row, so that a
    second that is stated each time does not make a hundred thousand attempts. Towards the end of its life half of what is
    left: nothing expires because it was put off too far."""
    retries = POLICIES[step.lane].retries
    before = min(_in_a_row(step), len(retries) - 1)
    own = _jittered(min(retries[before], LONGEST_THROTTLE), spread, only_later=True)
    return min(own, max(retries[0], (step.expires_at - now) / 2))


def _in_a_row(step: AttemptedStep) -> int:
    """How often it was told to wait, right before this answer. Nobody counts that. It is no more than the claims that were
    no failure, of which many are no attempts (looks at a stopped account, what went back); nor than the places of the
    retry table that the last wait has gone through, with room for what spreads it and for how late it was written."""
    if step.throttled is None:
        return 0
    gone_through = sum(wait <= 1.5 * step.throttled for wait in POLICIES[step.lane].retries)
    return min(max(0, step.attempt - 1 - step.failures), gone_through)


def _stated(result: SendResult, spread: float) -> timedelta:
    """The wait that the provider stated, never cut short; zero where it stated none that lies ahead."""
    wait = min(result.retry_after or timedelta(0), LONGEST_WAIT)
    return _jittered(wait, spread, only_later=True) if wait > timedelta(0) else timedelta(0)


def _jittered(wait: timedelta, spread: float, *, only_later: bool = False) -> timedelta:
    low = 1.0 if only_later else 1.0 - JITTER
    return wait * (low + (1.0 + JITTER - low) * spread)
