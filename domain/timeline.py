"""The published list of timeline event types; each says what its `detail` holds. Details never hold personal data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.lanes import Lane
from domain.states import FINAL, Reason, Status, merge, rank


class Stage(StrEnum):
    """How far a notification or a step of it had come when its time ran out."""

    QUEUED = "queued"
    """It waited for its turn to be planned."""
    PLANNED = "planned"
    """Its plan found that it would have to wait for longer than it lives."""
    HAND_OVER = "hand_over"
    """It was about to be handed over."""
    RETRY = "retry"
    """An attempt failed, and the next would come too late."""


class LeftFor(StrEnum):
    """Why a step left an account for another one, or its channel for the next one."""

    FAILED = "failed"
    """The account's answer was a failure."""
    CIRCUIT_OPEN = "circuit_open"
    """Its calls have failed, and it is not called for a while."""
    THROTTLED = "throttled"
    """It has said "not so often"."""
    BUSY = "busy"
    """No slot and no permit of it was free, or its receiver may have no more at the moment."""
    RECEIPT_OVERDUE = "receipt_overdue"
    RECEIPT_FAILED = "receipt_failed"
    ACCOUNT_GONE = "account_gone"
    """It was deleted."""
    ACCOUNT_PAUSED = "account_paused"
    ACCOUNT_BROKEN = "account_broken"
    """Its row cannot be used."""


class EventType(StrEnum):
    ACCEPTED = "accepted"
    """Stored and answered with 202. `lane` as it was then, `app`, `test` where a test-send made it; read from the
    notification itself and from what has changed it since."""
    COLLECTED = "collected"
    """It waits in a digest. `digest`: the notification that carries it, which may be itself."""
    DIGEST_CLOSED = "digest_closed"
    """What it carries is complete. `items`: how many, itself among them."""
    PLANNED = "planned"
    """A workflow took it up and decided its way. `channels`, `chain`, `drops`: [{channel, reason}],
    `put_off`: {reason, until} where the steps wait: quiet_hours, or the opening of a window."""
    ATTEMPT = "attempt"
    """A step was handed over. `attempt`, `channel`, `provider`, `account`, `class`, `code`, `provider_id`,
    `took_ms` (with code no_outcome, where its worker has ended or could not write what became of it, `claimed_at` instead),
    `status`, and `retry_at` or, where something follows if no receipt comes, `receipt_by`."""
    UNKNOWN = "unknown"
    """A hand-over whose answer is lost. `attempt`, `channel`, `then`: resend, fallback (no more resends: the next place of
    its chain) or hold. Told once more where it is not tried any more `because` of a later failure or a rule: the reason."""
    GIVEN_BACK = "given_back"
    """What was called unknown had not been handed over: whoever had it in hand says so late, and it is sent in its turn.
    `attempt`, `channel`."""
    FALLBACK = "fallback"
    """The next place of the chain was opened. `channel`, `after`; where the one before waited for too long over an account
    that takes nothing, `reason`: circuit_open, throttled, busy, account_paused or account_broken."""
    PUT_OFF = "put_off"
    """Not handed over yet, by a rule. `channel`, `reason`: quiet_hours or window with `until`; or account_paused or
    account_broken, with the `account` that is waited for. Of a digest that collects until then, without a `channel`."""
    FAILOVER = "failover"
    """It goes over another account of the same channel. `channel`, `account`, `after`, `reason`: one of
    `LeftFor`."""
    EXPIRED = "expired"
    """Time ran out, and nothing was sent after that. `stage` (one of `Stage`), `reason`, `channel` or `channels`; at the
    hand-over `account`, and `held_up_by` where that one took nothing at the time: one of `LeftFor`."""
    SUPPRESSED = "suppressed"
    """Not tried, by a rule. `channel`, `reason`; of a repeat `of`: the original."""
    QUARANTINED = "quarantined"
    """Failed three times inside this service. `code`."""
    CANCELLED = "cancelled"
    """Cancelled by request. `answer`, `channels`, `in_flight`; `may_have_arrived`, where there are such; `because`, where a
    one-time code was the reason: verified or resent."""
    RECALLED = "recalled"
    """Recall was asked for. `answer`, `channels`: [{n, channel, result}]."""
    EDITED = "edited"
    """Changed before anything was handed over; it is planned anew. `fields` (names only), `version`; where another lane
    came of it, `from` and `to`."""
    EXPEDITED = "expedited"
    """Made due at once, in the high lane. `from`, `to`: the lanes."""
    RESENT = "resent"
    """A new notification was made from it. `as`: its id."""
    RETRIED = "retried"
    """It had arrived over another channel and not over this one, which is tried again by request. `channel`; `was` and
    `reason`: how it had ended."""
    VERIFIED = "verified"
    """The one-time code that it carried was given back and fitted. `send`: the number of the code, 1 for the first."""
    DELETED = "deleted"
    """Removed from view; the audit trail keeps it. `answer`: what its cancellation achieved."""
    ERASED = "erased"
    """The recipient was erased: content, data and addresses are gone."""
    FINISHED = "finished"
    """All steps ended. `status`, `reason` as they were then; read from the notification itself, and where it has changed
    since, from what had happened by then."""
    RECEIPT = "receipt"
    """The provider reported what became of it. `status` (sent, delivered, read, failed), `account`, `provider_id`, `at`:
    when, by the provider's clock; of a failure `class` and `code`."""
    RESUMED = "resumed"
    """It had ended, and a receipt says that it failed: its chain goes on. `channel`, `chain`."""
    READ = "read"
    """The recipient read it."""


def moved(before: Lane, after: Lane) -> dict[str, str]:
    """The part of a detail that says that the lane was changed."""
    return {"from": before.label, "to": after.label}


@dataclass(frozen=True, slots=True)
class Told:
    """An entry as it was written."""

    at: datetime
    type: str
    n: int
    detail: Mapping[str, Any]


def first_lane(now: str, told: Sequence[Told]) -> str:
    """The lane that it was accepted with, by the one that it has `now` and every entry in order."""
    return next((str(entry.detail["from"]) for entry in told if "from" in entry.detail), now)


def first_end(now: tuple[Status, str | None], told: Sequence[Told], *, finished_at: datetime) -> tuple[Status, str | None]:
    """State and reason at `finished_at`, by those of `now`: a receipt, or a recipient who reads, changes them later."""
    if not any(entry.at > finished_at and entry.type in _CORRECTS for entry in told):
        return now
    reached: dict[int, Status] = {}
    for entry in told:
        status = _said(entry)
        if entry.at <= finished_at and status is not None:
            reached[entry.n] = merge(reached.get(entry.n, status), status)
    best = max(reached.values(), key=rank, default=None)
    if best is None or best not in FINAL or best is now[0]:
        return now
    return best, str(Reason.ANSWER_LOST) if best is Status.UNKNOWN else None


_CORRECTS = frozenset({"attempt", "receipt", "read", "recalled"})
"""Entries that may change how it has ended."""


def _said(entry: Told) -> Status | None:
    if entry.type in (EventType.READ, EventType.UNKNOWN):
        return Status.READ if entry.type == EventType.READ else Status.UNKNOWN
    if entry.type not in (EventType.ATTEMPT, EventType.RECEIPT):
        return None
    try:
        return Status(entry.detail.get("status", ""))
    except ValueError:
        return None
