"""From what happened to a claim to the outcome that is recorded: the domain decides, this names it for the timeline."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import structlog

from activities.accounts.account import Accounts, Stop
from domain.attempts import AttemptedStep, Awaited, Decision, decide, overdue
from domain.channels import Channel
from domain.cohorts import CohortEpoch
from domain.lost import recognised_over
from domain.planning import EXPIRED_WAITING
from domain.receipts import why_failed
from domain.rechecks import Verdict
from domain.results import ResultClass, SendResult
from domain.states import Reason, Status
from domain.timeline import EventType, LeftFor, Stage
from domain.windows import PutOff
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.engine.timeline import TimelineEvent
from infra.telemetry.engine_metrics import attempts, call_seconds, first_answer_seconds, steps

log = structlog.get_logger()

_VERDICTS: dict[Verdict, tuple[Decision, EventType]] = {
    Verdict.CANCELLED: (Decision(Status.CANCELLED, Reason.CANCELLED_BY_REQUEST), EventType.SUPPRESSED),
    Verdict.EXPIRED: (Decision(Status.EXPIRED, Reason.EXPIRED_BEFORE_HAND_OVER), EventType.EXPIRED),
    Verdict.GONE: (Decision(Status.SUPPRESSED, Reason.RECIPIENT_GONE), EventType.SUPPRESSED),
    Verdict.SUPPRESSED: (
        Decision(Status.SUPPRESSED, Reason.ADDRESS_SUPPRESSED, falls_back=True),
        EventType.SUPPRESSED,
    ),
    Verdict.OPTED_OUT: (Decision(Status.SUPPRESSED, Reason.OPTED_OUT), EventType.SUPPRESSED),
}
"""What the recheck at the moment of hand-over leads to."""

_TOO_LATE = frozenset({Verdict.CANCELLED, Verdict.EXPIRED, Verdict.GONE})
"""With these verdicts nothing follows, whether the receipt has not come or says that it failed."""

BROKEN_TEMPLATE = Decision(Status.FAILED, Reason.TEMPLATE_BROKEN, falls_back=True)
NO_ACCOUNT = Decision(Status.FAILED, Reason.NO_ACCOUNT, falls_back=True)
STOPPED_LOOK = timedelta(minutes=5)
"""Steps that wait for a stopped account are claimed this often, so that they expire in time; resuming wakes them."""
NOT_IN_TIME = Decision(Status.FAILED, Reason.NOT_TAKEN_IN_TIME, falls_back=True)
"""The time of its place in the chain has passed, over an account that takes nothing."""
NO_OUTCOME = "no_outcome"
"""The code of a hand-over whose outcome nobody brought home: its worker has ended, or could not write it."""
QUARANTINED = Decision(Status.FAILED, Reason.QUARANTINED, falls_back=True)
STALE_WAIT = timedelta(seconds=1)

End: TypeAlias = StepOutcome | Returned
"""How a claim ends in our hands: it is recorded, or goes back unsent."""


class Decider:
    """Builds outcomes; `cohort`: of what it has claimed."""

    def __init__(self, accounts: Accounts, *, cohort: CohortEpoch | None) -> None:
        self._accounts = accounts
        self._cohort = cohort

    def answered(self, claim: Claim, result: SendResult, *, started_s: float | None) -> StepOutcome:
        """The outcome of a call: the provider's answer, or that it was lost. `started_s`: time.monotonic() when it was
        made; None: nobody can say."""
        capabilities = self._accounts.capabilities_of(claim.account, channel=claim.channel)
        taken = result.result is ResultClass.OK  # then it is known where it is, and a missing receipt counts as ever
        other = self._other(claim) if taken else self._elsewhere(claim)
        step = self._step(claim, idempotent=capabilities.idempotent, elsewhere=other is not None)
        ended_s = time.monotonic()
        decision = decide(step, result, now=claim.database_time(ended_s), spread=random.random())
        took_s = None if started_s is None else ended_s - started_s
        _count(claim, result, decision, ended_s=ended_s, took_s=took_s)
        events = [self._attempt(claim, result, decision, took_s=took_s, provider=capabilities.provider)]
        if result.result is ResultClass.UNKNOWN:
            detail = {"attempt": claim.attempt, "channel": claim.channel, "then": _then(claim, decision)}
            events.append(TimelineEvent(EventType.UNKNOWN, detail))
        if decision.status is Status.EXPIRED:
            detail = {"channel": claim.channel, "reason": decision.reason, "stage": Stage.RETRY}
            events.append(TimelineEvent(EventType.EXPIRED, detail))
        outcome = self._outcome(claim, decision, events, result=result, at_s=ended_s, moves_to=other,
                                awaits=self._aim(claim, step.awaits))  # fmt: skip
        return replace(outcome, receipt_within=step.awaits.within) if step.awaits is not None else outcome

    def lost(self, claim: Claim) -> StepOutcome:
        """A claim whose outcome nobody brought home: unknown, and only assumed. A look is made here; it sends nothing."""
        if claim.awaiting:
            return self.overdue(claim)
        nothing = SendResult(ResultClass.UNKNOWN, code=NO_OUTCOME)
        return replace(self.answered(claim, nothing, started_s=None), assumed=True)

    def all_lost(self, claims: Sequence[Claim]) -> Iterator[StepOutcome]:
        """`lost` for each. A claim that makes us fail is logged and left out; it spoils no other."""
        for claim in claims:
            try:
                yield self.lost(claim)
            except Exception as error:
                code = type(error).__name__
                log.error("hand_over.defect", notification_id=str(claim.notification_id), n=claim.n, code=code)

    def unsent(self, claim: Claim, *, takes_nothing: bool = False) -> End | None:
        """The end of a claim that is not sent, by what was looked at again when it was made; None: it may be sent.
        `takes_nothing`: its account, at the moment."""
        if claim.awaiting:
            return self.overdue(claim)
        if claim.verdict is Verdict.STALE:
            return self.returned(claim, wait=STALE_WAIT)
        if claim.verdict is not Verdict.SEND:
            return self.stopped(claim, takes_nothing=takes_nothing)
        return self._held(claim) if claim.stays and not recognised_over(claim.lost, claim.account) else None

    def stopped(self, claim: Claim, *, takes_nothing: bool = False) -> StepOutcome:
        """The recheck found that it must not be sent (any verdict but SEND and STALE). After an opt-out the chain goes on
        only if the person still permits a channel of it; each place is looked at again in its turn. `takes_nothing`: its
        account, at the moment."""
        if claim.verdict is Verdict.NOT_NOW and claim.put_off is not None:
            return self._put_off(claim, claim.put_off)
        decision, event = _VERDICTS[claim.verdict]
        if claim.verdict is Verdict.OPTED_OUT:
            decision = replace(decision, falls_back=bool(claim.permitted))
        detail: dict[str, Any] = {"channel": claim.channel, "reason": decision.reason, "stage": Stage.HAND_OVER}
        if event is EventType.EXPIRED:
            detail |= self._held_up(claim, takes_nothing=takes_nothing)
        return self._outcome(claim, decision, [TimelineEvent(event, detail)])

    def _held(self, claim: Claim) -> StepOutcome:
        """It may have arrived, and stands over an account that would not recognise it."""
        held = Decision(Status.UNKNOWN, Reason.ANSWER_LOST, failures=claim.failures)
        detail = {"attempt": claim.lost[-1].attempt, "channel": claim.channel, "then": "hold"}
        return self._outcome(claim, held, [TimelineEvent(EventType.UNKNOWN, detail)])

    def _held_up(self, claim: Claim, *, takes_nothing: bool) -> dict[str, str]:
        """Over which account it waited, and what for: told here once, because each time that it was put off would be a row
        for each of all that wait."""
        account = self._accounts.get(claim.account)
        if account is None:
            return {"account": claim.account, "held_up_by": LeftFor.ACCOUNT_GONE}
        now_s = self._accounts.clock()
        why = account.takes_nothing_for(now_s) if takes_nothing else account.holds_up(now_s)
        return {"account": claim.account} | ({"held_up_by": why} if why else {})

    def _put_off(self, claim: Claim, wait: PutOff) -> StepOutcome:
        """Quiet hours have begun or a window has closed since the plan, or it is the retry or the next place of a chain
        that falls into them."""
        detail: dict[str, Any] = {"channel": claim.channel, "reason": wait.because}
        if wait.until >= claim.expires_at:
            expired = Decision(Status.EXPIRED, EXPIRED_WAITING[wait.because], failures=claim.failures)
            detail |= {"reason": expired.reason, "stage": Stage.HAND_OVER}
            return self._outcome(claim, expired, [TimelineEvent(EventType.EXPIRED, detail)])
        decision = Decision(Status.SCHEDULED, due_at=wait.until, failures=claim.failures)
        detail |= {"until": wait.until.isoformat()}
        told = [TimelineEvent(EventType.PUT_OFF, detail)]
        outcome = self._outcome(claim, decision, told)
        bounded = claim.falls_back_at is not None
        return replace(outcome, falls_back_at=_bound(claim, since=wait.until)) if bounded else outcome

    def overdue(self, claim: Claim) -> StepOutcome:
        """A look: the receipt has not come, or says that the message failed. Another account or the next channel follows,
        unless it was cancelled, has expired or nobody is there any more. Nothing is handed over by this claim."""
        failed = None if claim.receipt in (None, Status.DELIVERED) else ResultClass(claim.receipt)
        if claim.verdict in _TOO_LATE:
            ended = Decision(Status.SENT) if failed is None else Decision(Status.FAILED, why_failed(failed))
            return self._outcome(claim, replace(ended, failures=claim.failures), [])
        other = None if claim.receipt == Status.DELIVERED else self._elsewhere(claim)
        step = self._step(claim, idempotent=False, elsewhere=other is not None)
        now = claim.database_time(time.monotonic())
        decision = overdue(step, now=now, failed=failed)
        why = LeftFor.RECEIPT_OVERDUE if failed is None else LeftFor.RECEIPT_FAILED
        outcome = self._outcome(claim, decision, [], moves_to=other, why=why, awaits=self._aim(claim, step.awaits))
        anew = decision.moves and claim.falls_back_at is None
        return replace(outcome, falls_back_at=_bound(claim, since=now)) if anew else outcome

    def unserved(self, claim: Claim, *, stopped: Stop | None = None, takes_nothing: bool = False) -> StepOutcome:
        """A step whose account is gone goes over another one, or ends. An account that is `stopped`, or `takes_nothing` at
        the moment, comes back: without another one the step waits for it, until its chain goes on."""
        other, why = self._elsewhere(claim), self._left_for(claim, stopped=stopped)
        if other is not None:
            again = Decision(Status.SCHEDULED, due_at=claim.claimed_at, failures=claim.failures, moves=True)
            return self._outcome(claim, again, [], moves_to=other, why=why)
        if claim.has_waited and (stopped is not None or takes_nothing):
            over = replace(NOT_IN_TIME, failures=claim.failures)
            return self._outcome(claim, over, [], why=why, awaits=claim.awaits)
        if stopped is not None:
            return self._waits_for(claim, stopped)
        detail = {"channel": claim.channel, "reason": Reason.NO_ACCOUNT, "stage": Stage.HAND_OVER}
        return self._outcome(claim, NO_ACCOUNT, [TimelineEvent(EventType.SUPPRESSED, detail)])

    def _left_for(self, claim: Claim, *, stopped: Stop | None) -> LeftFor:
        if stopped is not None:
            return LeftFor(stopped)
        account = self._accounts.get(claim.account)
        return account.takes_nothing_for(self._accounts.clock()) if account else LeftFor.ACCOUNT_GONE

    def _waits_for(self, claim: Claim, stopped: Stop) -> StepOutcome:
        """The step waits until the account is resumed, its chain goes on or it expires. `tried` names its own account, as a
        mark (`domain.work_row`): the timeline tells of it once, and resuming wakes it."""
        due_at = min(claim.claimed_at + STOPPED_LOOK, claim.expires_at, claim.falls_back_at or claim.expires_at)
        events = []
        if claim.account not in claim.tried:
            detail = {"channel": claim.channel, "reason": stopped, "account": claim.account}
            events.append(TimelineEvent(EventType.PUT_OFF, detail))
        decision = Decision(Status.SCHEDULED, due_at=due_at, failures=claim.failures)
        return replace(self._outcome(claim, decision, events), tried=(claim.account,))

    def broken(self, claim: Claim, code: str) -> StepOutcome:
        """The template cannot be rendered with this data; trying again cannot help."""
        detail = {"channel": claim.channel, "reason": Reason.TEMPLATE_BROKEN, "code": code}
        return self._outcome(claim, BROKEN_TEMPLATE, [TimelineEvent(EventType.SUPPRESSED, detail)])

    def quarantined(self, claim: Claim, code: str) -> StepOutcome:
        """It failed inside this service once too often."""
        return self._outcome(claim, QUARANTINED, [TimelineEvent(EventType.QUARANTINED, {"code": code})])

    def _attempt(
        self, claim: Claim, result: SendResult, decision: Decision, *, took_s: float | None, provider: str
    ) -> TimelineEvent:
        detail: dict[str, Any] = {
            "attempt": claim.attempt,
            "channel": claim.channel,
            "provider": provider,
            "account": claim.account,
            "class": result.result,
            "code": result.code,
            "status": decision.status,
        }
        if took_s is not None:
            detail["took_ms"] = round(took_s * 1000, 1)
        elif claim.held_since is not None:
            detail["claimed_at"] = claim.held_since.isoformat()
        if result.provider_id:
            detail["provider_id"] = result.provider_id
        if decision.due_at is not None:
            detail["receipt_by" if decision.awaiting else "retry_at"] = decision.due_at.isoformat()
        return TimelineEvent(EventType.ATTEMPT, detail)

    def _step(self, claim: Claim, *, idempotent: bool, elsewhere: bool) -> AttemptedStep:
        awaits = self._awaits(claim, elsewhere=elsewhere)
        return AttemptedStep(
            claim.lane, claim.failures, claim.expires_at, claim.resend_unknown, idempotent, elsewhere, awaits,
            claim.attempt, claim.throttled, claim.falls_back_at if claim.chain else None,
        )  # fmt: skip

    def _awaits(self, claim: Claim, *, elsewhere: bool) -> Awaited | None:
        """The receipt that is waited for: by the chain, or because the account is left where none comes; the sooner of
        the two. None where nothing would follow, or none can come."""
        account = self._accounts.get(claim.account)
        chain = claim.awaits if claim.chain else None
        within = account.receipt_within if account and elsewhere else None
        if account is None or not (account.provider.capabilities.receipts or claim.channel is Channel.INAPP):
            return None  # an in-app message shows by itself that it was read
        if within is None or (chain is not None and chain.within <= within):
            return chain
        return Awaited(Status.DELIVERED, within)

    def returned(self, claim: Claim, *, faults: int = 0, wait: timedelta = timedelta(0)) -> Returned:
        """The claim as it is given back unsent, to be due after `wait`."""
        awaits = self._awaits(claim, elsewhere=self._other(claim) is not None)
        reading = claim.awaits if claim.chain and claim.awaits and claim.awaits.status is Status.READ else None
        within = (awaits.within if awaits else None, reading.within if reading else None)
        return Returned(*claim.step, claim.attempt, faults, wait, *within, chained=claim.chained)

    def _awaits_earlier(self, claim: Claim) -> Awaited | None:
        """What is waited for where this resend ends unsent, and the answer to the attempt that was lost has come meanwhile:
        it was taken."""
        if claim.awaiting or not claim.lost:
            return None
        return self._awaits(claim, elsewhere=self._other(claim) is not None)

    def _aim(self, claim: Claim, awaits: Awaited | None) -> Awaited | None:
        """The receipt that ends the step for good. Where the chain waits for `read`, `delivered` only ends the wait for
        this account."""
        reading = claim.chain and claim.awaits is not None and claim.awaits.status is Status.READ
        return claim.awaits if awaits is not None and reading else awaits

    def _elsewhere(self, claim: Claim) -> str | None:
        """Another account that may have it next."""
        return None if claim.stays else self._other(claim)

    def _other(self, claim: Claim) -> str | None:
        """Another account that could take it."""
        other = self._accounts.choose(claim.tenant, claim.channel, tried=(*claim.tried, claim.account))
        return other.name if other else None

    def _outcome(
        self,
        claim: Claim,
        decision: Decision,
        events: list[TimelineEvent],
        *,
        result: SendResult | None = None,
        at_s: float | None = None,
        moves_to: str | None = None,
        why: LeftFor = LeftFor.FAILED,
        awaits: Awaited | None = None,
    ) -> StepOutcome:
        account_of_next = None
        if decision.falls_back and claim.chain:
            following = claim.chain[0].channel
            first = self._accounts.first(claim.tenant, following)
            account_of_next = first.name if first else claim.account  # nobody's: the hand-over says so
            detail: dict[str, Any] = {"channel": following, "after": claim.channel}
            if decision.reason is Reason.NOT_TAKEN_IN_TIME and result is None:
                detail["reason"] = why
            events = [*events, TimelineEvent(EventType.FALLBACK, detail)]
        moves = moves_to if decision.moves else None
        capabilities = self._accounts.capabilities_of(claim.account, channel=claim.channel)
        earlier = self._awaits_earlier(claim) if result is None else None
        if moves is not None:
            detail = {"channel": claim.channel, "account": moves, "after": claim.account, "reason": why}
            events = [*events, TimelineEvent(EventType.FAILOVER, detail)]
        return StepOutcome(
            claim=claim,
            decision=decision,
            result=result,
            provider=capabilities.provider,
            events=tuple(events),
            happened_at_s=time.monotonic() if at_s is None else at_s,
            cohort=self._cohort,
            account_of_next=account_of_next,
            moves_to=moves,
            tried=(*claim.tried, claim.account) if moves is not None else claim.tried if decision.awaiting else (),
            awaits=awaits or self._aim(claim, earlier),
            receipt_within=earlier.within if earlier else None,
            falls_back_at=None if _may_be_there(claim, result) else claim.falls_back_at,
            window=capabilities.receipt_window if capabilities.receipts else None,
            recognised=capabilities.idempotent,
        )


def _may_be_there(claim: Claim, result: SendResult | None) -> bool:
    """The answer was lost, and the message must not appear twice: only a provider that recognises the delivery id may be
    asked again, and the chain's time no longer counts."""
    return result is not None and result.result is ResultClass.UNKNOWN and not claim.resend_unknown


def _then(claim: Claim, decision: Decision) -> str:
    """What follows a lost answer, as the timeline names it."""
    if decision.due_at is not None:
        return "resend"
    return "fallback" if decision.falls_back and claim.chain else "hold"


def _bound(claim: Claim, *, since: datetime) -> datetime | None:
    """When the chain goes on, where a step that may be sent `since` then is not taken; None: nothing would follow."""
    return since + claim.awaits.within if claim.chain and claim.awaits else None


def _count(claim: Claim, result: SendResult, decision: Decision, *, ended_s: float, took_s: float | None) -> None:
    attempts(claim.channel, result.result).inc()
    if took_s is not None:
        call_seconds(claim.channel).observe(took_s)
    if decision.due_at is None:
        steps(claim.channel, decision.status).inc()
    if claim.attempt == 1 and claim.first:
        waited = claim.database_time(ended_s) - claim.due_since
        first_answer_seconds(claim.lane.label).observe(waited.total_seconds())
