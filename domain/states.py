"""States of notifications and deliveries, and how the second decide the first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """State of a notification (the API's `status`). Deliveries use the same words, and `retrying`."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    COLLECTED = "collected"
    """Another notification carries it: a digest that is open, or on its way. It ends as that one does."""
    PROCESSING = "processing"
    RETRYING = "retrying"
    """Of a delivery only: an attempt failed, another is due."""
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"


class Strategy(StrEnum):
    """How the channels of one notification relate."""

    ALL = "all"
    FALLBACK = "fallback"
    PREFERRED = "preferred"


class Reason(StrEnum):
    """Why a notification or a step ended as it did; the published list."""

    NO_ADDRESS = "no_address"
    """The user has no address on this channel."""
    NO_CHANNEL = "no_channel"
    """No channel was left that could carry it."""
    NO_ACCOUNT = "no_account"
    """No provider account serves this channel."""
    RECIPIENT_GONE = "recipient_gone"
    """The user was erased, merged away or deactivated after accept."""
    RECIPIENT_REFUSED = "recipient_refused"
    """The provider says that this address is dead or has opted out."""
    ADDRESS_SUPPRESSED = "address_suppressed"
    """The address is on the suppression list."""
    OPTED_OUT = "opted_out"
    """The user's preferences do not permit this category on this channel."""
    FREQUENCY_CAP = "frequency_cap"
    """The user's preferences allow no more of it for now."""
    DUPLICATE = "duplicate"
    """The same went to the same recipient within the window that it names itself (`dedupe`)."""
    CONTENT_REFUSED = "content_refused"
    """The provider refuses this content; sending it again cannot help."""
    ENDPOINT_REFUSED = "endpoint_refused"
    """What is called is not there, has moved, or may not be called (a webhook's 404 or redirect, a private network): its
    owner has to mend it."""
    MAILBOX_FULL = "mailbox_full"
    """The mail server says, for good, that the recipient's mailbox has no room for it (552 5.2.2)."""
    UNDELIVERED = "undelivered"
    """The provider took it, and reported later that it did not arrive."""
    ARRIVED_ELSEWHERE = "arrived_elsewhere"
    """It is known to have arrived over another channel of the chain: this one was not used any more."""
    NOT_TAKEN_IN_TIME = "not_taken_in_time"
    """Nobody had taken it within `fallback_after`, and the next channel was tried."""
    RETRIES_EXHAUSTED = "retries_exhausted"
    """Every attempt that the lane's retry table allows has failed."""
    ACCOUNT_MISCONFIGURED = "account_misconfigured"
    """The provider refuses our credentials, quota or address; an operator has to mend the account."""
    EXPIRED_BEFORE_PLAN = "expired_before_plan"
    """Time ran out before its turn came."""
    EXPIRED_BEFORE_HAND_OVER = "expired_before_hand_over"
    """Time ran out between plan and hand-over."""
    EXPIRED_BEFORE_RETRY = "expired_before_retry"
    """An attempt failed, and the next would come after the time has run out."""
    EXPIRED_IN_QUIET_HOURS = "expired_in_quiet_hours"
    """The user's quiet hours end after the time has run out."""
    EXPIRED_OUTSIDE_WINDOW = "expired_outside_window"
    """The window in which it may be sent opens after the time has run out."""
    CANCELLED_BY_REQUEST = "cancelled_by_request"
    RECALLED_BY_REQUEST = "recalled_by_request"
    """It had been handed over and was taken back unread."""
    ANSWER_LOST = "answer_lost"
    """It was handed over and no answer came: it may have arrived. A later receipt corrects this."""
    TEMPLATE_BROKEN = "template_broken"
    """The template could not be rendered with this data."""
    QUARANTINED = "quarantined"
    """It failed three times inside this service; the timeline names the error code."""


FINAL = frozenset(
    {
        Status.SENT,
        Status.DELIVERED,
        Status.READ,
        Status.FAILED,
        Status.EXPIRED,
        Status.CANCELLED,
        Status.SUPPRESSED,
        Status.UNKNOWN,
    }
)
SUCCESS = frozenset({Status.SENT, Status.DELIVERED, Status.READ})
UNDELIVERED = FINAL - SUCCESS
"""Ends that carry a reason, always: lists find them by it."""
MISSED = frozenset({Status.FAILED, Status.UNKNOWN, Status.EXPIRED})
"""Ends of a channel that make a notification partial where another one arrived."""

_ENDS_AS: dict[Reason, Status] = {
    Reason.NO_ADDRESS: Status.SUPPRESSED,
    Reason.RECIPIENT_GONE: Status.SUPPRESSED,
    Reason.ADDRESS_SUPPRESSED: Status.SUPPRESSED,
    Reason.DUPLICATE: Status.SUPPRESSED,
    Reason.NO_CHANNEL: Status.SUPPRESSED,
    Reason.ARRIVED_ELSEWHERE: Status.SUPPRESSED,
    Reason.EXPIRED_BEFORE_PLAN: Status.EXPIRED,
    Reason.EXPIRED_BEFORE_HAND_OVER: Status.EXPIRED,
    Reason.EXPIRED_BEFORE_RETRY: Status.EXPIRED,
    Reason.CANCELLED_BY_REQUEST: Status.CANCELLED,
    Reason.RECALLED_BY_REQUEST: Status.CANCELLED,
}
"""Reasons that never stand with another state. One that is not here may stand with any."""


def reasons_of(status: Status) -> frozenset[Reason]:
    """Every reason that a notification in this state can carry."""
    return frozenset(reason for reason in Reason if _ENDS_AS.get(reason, status) is status)


_RANK: dict[Status, int] = {
    Status.READ: 90,
    Status.DELIVERED: 80,
    Status.SENT: 70,
    Status.UNKNOWN: 60,
    Status.FAILED: 50,
    Status.EXPIRED: 40,
    Status.CANCELLED: 30,
    Status.SUPPRESSED: 20,
    Status.RETRYING: 10,
    Status.PROCESSING: 5,
    Status.COLLECTED: 3,
    Status.SCHEDULED: 2,
    Status.ACCEPTED: 1,
}


def rank(status: Status) -> int:
    """Evidence: a higher rank is never undone by a lower one (a late `unknown` never undoes `sent`)."""
    return _RANK[status]


def merge(known: Status, news: Status) -> Status:
    """The state of a delivery after `news`, whatever the order in which the two came."""
    return known if rank(known) >= rank(news) else news


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """What `outcome` needs of one step's record."""

    status: Status
    reason: str | None = None
    receipt_due: bool = False
    """It was sent, and a receipt may still come."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a notification ended."""

    status: Status
    reason: str | None
    partial: bool
    """With strategy `all`: it arrived on one channel and failed on another."""
    final: bool = True
    """False while a receipt may still come for what was sent."""


def outcome(deliveries: Iterable[DeliveryState], *, strategy: Strategy) -> Outcome:
    """The end of a notification none of whose steps is open any more: the best delivery wins, and of equal ones the
    same reason is told whatever their order."""
    best: DeliveryState | None = None
    worst_counts, final = False, True
    for delivery in deliveries:
        final = final and not (delivery.receipt_due and delivery.status is Status.SENT)
        if best is None or _weight(delivery) > _weight(best):
            best = delivery
        worst_counts = worst_counts or delivery.status in MISSED
    if best is None:
        return Outcome(Status.SUPPRESSED, Reason.NO_CHANNEL, partial=False)
    good = best.status in SUCCESS
    partial = good and worst_counts and strategy is Strategy.ALL
    return Outcome(best.status, None if good else best.reason, partial=partial, final=final)


def _weight(delivery: DeliveryState) -> tuple[int, str]:
    return rank(delivery.status), delivery.reason or ""
