"""Outcomes that cannot be written as they are: one of many is found by halving, and keeps at least how it ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import structlog

from domain.attempts import Decision
from domain.results import ResultClass, SendResult
from domain.states import SUCCESS, Reason, Status
from domain.timeline import EventType
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.engine.timeline import TimelineEvent

log = structlog.get_logger()

NOT_RECORDABLE = "not_recordable"
"""The code where the provider's own cannot be written."""


@dataclass(frozen=True, slots=True)
class Part:
    """Outcomes that are written in one statement."""

    rows: list[StepOutcome]
    tries: int = 0
    """How often it has poisoned its statement alone."""


def without_poison(part: Part, error: Exception) -> list[Part]:
    """The parts to write instead, last first: the two halves; or the bad outcome alone and plainer, first without the
    provider's id and code, which others have written, then with nothing but how it ended. Where even that cannot be
    written, none: its claim is called lost in time."""
    if len(part.rows) > 1:
        middle = len(part.rows) // 2
        return [Part(part.rows[middle:]), Part(part.rows[:middle])]
    [outcome] = part.rows
    claim, code = outcome.claim, type(error).__name__
    log.error("outcome.poison", notification_id=str(claim.notification_id), n=claim.n, tries=part.tries + 1, code=code)
    if part.tries == 0:
        return [Part([_unnamed(outcome)], 1)]
    return [Part([_bare(outcome)], 2)] if part.tries == 1 else []


def _unnamed(outcome: StepOutcome) -> StepOutcome:
    result = outcome.result and replace(outcome.result, provider_id=None, code=NOT_RECORDABLE)
    return replace(outcome, result=result, events=tuple(replace(e, detail=_unnamed_detail(e)) for e in outcome.events))


def _unnamed_detail(event: TimelineEvent) -> dict[str, Any]:
    kept = {key: value for key, value in event.detail.items() if key != "provider_id"}
    return kept | {"code": NOT_RECORDABLE} if "code" in kept else kept


def _bare(outcome: StepOutcome) -> StepOutcome:
    """The outcome with its end alone: taken stays taken, unknown stays unknown, anything else is quarantined."""
    status, decision = outcome.decision.status, Decision(Status.FAILED, Reason.QUARANTINED)
    if status in SUCCESS:
        decision = Decision(status, outcome.decision.reason)
    elif outcome.result is not None and outcome.result.result is ResultClass.UNKNOWN:  # also where a resend was to follow
        decision = Decision(Status.UNKNOWN, Reason.ANSWER_LOST)
    result = outcome.result and SendResult(outcome.result.result, NOT_RECORDABLE, delivered=outcome.result.delivered)
    told = TimelineEvent(EventType.QUARANTINED, {"channel": outcome.claim.channel, "code": NOT_RECORDABLE})
    return replace(outcome, decision=replace(decision, failures=outcome.decision.failures), result=result, events=(told,),
                   account_of_next=None, moves_to=None, tried=(), awaits=None, window=None)  # fmt: skip
