"""What became of one attempt, as its worker tells it to the flush."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from domain.attempts import Awaited, Decision
from domain.cohorts import CohortEpoch
from domain.lost import Lost, LostAttempt, after_answer
from domain.recording import CANCELLED, AttemptOutcome, stopped
from domain.results import ResultClass, SendResult
from domain.states import Reason, Status
from domain.timeline import EventType
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.timeline import TimelineEvent


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of one attempt."""

    claim: Claim
    decision: Decision
    result: SendResult | None
    """None where nothing was handed over (expired, suppressed, broken template)."""
    provider: str | None
    events: tuple[TimelineEvent, ...]
    happened_at_s: float
    """time.monotonic() of the moment, so that the database's clock can date it."""
    cohort: CohortEpoch | None
    account_of_next: str | None = None
    """The account of the chain's next channel."""
    moves_to: str | None = None
    """The account that the next attempt goes over, where it is another one."""
    tried: tuple[str, ...] = ()
    """Accounts that the next attempt passes by."""
    awaits: Awaited | None = None
    """The receipt that must come, or something follows."""
    receipt_within: timedelta | None = None
    """How long any receipt is waited for, where that is less than for the one that must come."""
    falls_back_at: datetime | None = None
    """When its chain goes on, if nobody has taken it by then, from now on; None: it does not."""
    window: timedelta | None = None
    """The provider reports later what becomes of it, at most for this long; None: it does not."""
    assumed: bool = False
    """Nobody brought the outcome home, so that it counts as unknown: said only while the claim is still open."""
    recognised: bool = False
    """The account recognises a repeated delivery id."""

    @property
    def of_attempt(self) -> AttemptOutcome:
        """The part that decides what is recorded."""
        claim, result = self.claim, self.result
        return AttemptOutcome(
            claim.attempt, self.decision, None if result is None else result.result, claim.awaiting, claim.receipt,
            bool(claim.chain), self.awaits, self.window is not None, self.assumed, claim.resend_unknown,
        )  # fmt: skip

    def leaves(self, lost: Lost) -> Lost:
        """Which attempts of the step may have arrived, after this one."""
        result = None if self.result is None else self.result.result
        if not lost and result is not ResultClass.UNKNOWN:
            return lost
        return after_answer(lost, LostAttempt(self.claim.attempt, self.claim.account, self.recognised), result)

    def stopped(self, *, end: tuple[Status, Reason] = CANCELLED) -> StepOutcome:
        """What it comes to where nothing may follow any more (`domain.recording.stopped`), and what is told of that."""
        lost = self.result is not None and self.result.result is ResultClass.UNKNOWN
        decision = stopped(self.decision, lost=lost, end=end)
        if self.decision.due_at is None and not (lost and self.decision.falls_back):
            return replace(self, decision=decision)
        events = tuple(
            replace(event, detail=_without_sequel(event.detail, decision.status))
            for event in self.events
            if event.type is not EventType.PUT_OFF
        )
        return replace(self, decision=decision, events=events)


def without_resend(event: TimelineEvent) -> TimelineEvent:
    """What is told where it is not tried again, though its worker thought so: an earlier attempt was taken."""
    detail = {key: value for key, value in event.detail.items() if key != "retry_at"}
    return replace(event, detail=detail | ({"then": "hold"} if "then" in detail else {}))


def _without_sequel(detail: dict[str, Any], status: Status) -> dict[str, Any]:
    changed = {key: value for key, value in detail.items() if key not in {"retry_at", "receipt_by"}}
    return changed | {key: value for key, value in (("status", status), ("then", "hold")) if key in detail}
