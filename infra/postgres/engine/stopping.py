"""What an outcome comes to where nothing may follow it any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from domain.attempts import Decision
from domain.results import ResultClass
from domain.states import SUCCESS, Reason, Status
from domain.timeline import EventType
from infra.postgres.engine.step_outcome import StepOutcome


def stopped(
    outcome: StepOutcome, *, as_: tuple[Status, Reason] = (Status.CANCELLED, Reason.CANCELLED_BY_REQUEST)
) -> StepOutcome:
    """After a cancellation what was in flight keeps its outcome, but neither a retry nor a fallback follows."""
    decision = replace(outcome.decision, falls_back=False)
    if decision.due_at is None:
        return replace(outcome, decision=decision)
    if decision.status in SUCCESS:  # it was taken, and nobody waits for its receipt any more
        events = tuple(replace(e, detail=_without_retry(e.detail, decision.status)) for e in outcome.events)
        return replace(outcome, decision=replace(decision, due_at=None, awaiting=False, moves=False), events=events)
    lost = outcome.result is not None and outcome.result.result is ResultClass.UNKNOWN
    status, reason = (Status.UNKNOWN, Reason.ANSWER_LOST) if lost else as_
    events = tuple(
        replace(event, detail=_without_retry(event.detail, status))
        for event in outcome.events
        if event.type is not EventType.PUT_OFF
    )
    return replace(outcome, decision=Decision(status, reason, failures=decision.failures), events=events)


def _without_retry(detail: dict[str, Any], status: Status) -> dict[str, Any]:
    changed = {key: value for key, value in detail.items() if key not in {"retry_at", "receipt_by"}}
    return changed | {key: value for key, value in (("status", status), ("then", "hold")) if key in detail}
