"""Cancellation: what it achieved, by what is known after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from domain.states import SUCCESS, Status


class CancelResult(StrEnum):
    """What a cancellation achieved."""

    CANCELLED = "cancelled"
    """Nothing was handed over, and nothing will be."""
    PARTLY_CANCELLED = "partly_cancelled"
    """Some channels were stopped; others had been handed over or are being handed over at this moment. Or it was stopped
    between two attempts, and of an earlier one the answer was lost (`may_have_arrived`)."""
    ALREADY_HANDED_OFF = "already_handed_off"
    """Every channel was handed over or is being handed over at this moment; or the digest that it is in has closed."""
    ALREADY_FINISHED = "already_finished"
    """It had ended before, undelivered (failed, expired, suppressed, unknown)."""


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    result: CancelResult
    status: Status
    """The notification's state after it."""
    cancelled: tuple[str, ...] = ()
    """Channels that were stopped."""
    in_flight: tuple[str, ...] = ()
    """Channels being handed over at this moment; neither retry nor fallback will follow."""
    may_have_arrived: tuple[str, ...] = ()
    """Channels that are not tried any more, and over which it may have arrived: the answer of an attempt was lost."""


def cancel_answer(
    status: Status, *, asked: bool, cancelled: Sequence[str], in_flight: Sequence[str], unknown: Sequence[str]
) -> CancelAnswer:
    """The truth as it stands after the cancellation, whichever call brought it about: the notification's `status`, whether
    it was `asked` for before the end, the channels that were stopped, those being handed over at this moment, and those of
    which it is not known whether it arrived."""
    stopped, moving, maybe = tuple(cancelled), tuple(in_flight), tuple(unknown)
    if status is Status.COLLECTED:
        return CancelAnswer(CancelResult.ALREADY_HANDED_OFF, status)
    if moving:
        result = CancelResult.PARTLY_CANCELLED if stopped else CancelResult.ALREADY_HANDED_OFF
        return CancelAnswer(result, Status.PROCESSING, stopped, moving, maybe)
    if stopped or status is Status.CANCELLED or (asked and status is Status.UNKNOWN):
        arrived = status in SUCCESS or status is Status.UNKNOWN
        result = CancelResult.PARTLY_CANCELLED if arrived else CancelResult.CANCELLED
    else:
        result = CancelResult.ALREADY_HANDED_OFF if status in SUCCESS else CancelResult.ALREADY_FINISHED
    return CancelAnswer(result, status, stopped, (), maybe)
