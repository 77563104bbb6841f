"""Recall: what became of each channel's message, and what that is for the whole notification."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from domain.states import SUCCESS, Reason, Status


class ChannelRecall(StrEnum):
    """What a recall achieved on one channel."""

    CANCELLED = "cancelled"
    """It was stopped before it was handed over."""
    RECALLED = "recalled"
    """It was taken back unread, or will be as soon as it arrives."""
    ALREADY_READ = "already_read"
    """It was read, and is left where it is."""
    CANNOT_RECALL = "cannot_recall"
    """It was handed over, or is being handed over, and this channel takes nothing back."""
    NOT_DELIVERED = "not_delivered"
    """It never arrived (failed, expired, suppressed)."""
    UNAVAILABLE = "unavailable"
    """The provider could not be asked: ask again."""


class RecallResult(StrEnum):
    """What a recall achieved in all."""

    RECALLED = "recalled"
    """Whatever had gone out was taken back, and nothing more goes out."""
    PARTLY_RECALLED = "partly_recalled"
    """Some was taken back or stopped; some has been seen, or cannot be taken back."""
    CANCELLED = "cancelled"
    """Nothing had been handed over, and nothing will be."""
    ALREADY_READ = "already_read"
    """It was read before."""
    CANNOT_RECALL = "cannot_recall"
    """It had been handed over on channels that take nothing back."""
    ALREADY_FINISHED = "already_finished"
    """It had ended before, undelivered."""
    UNAVAILABLE = "unavailable"
    """Nothing could be taken back now, because a provider could not be asked: ask again."""


_TAKEN_BACK = frozenset({ChannelRecall.RECALLED, ChannelRecall.CANCELLED})
_LEFT = (ChannelRecall.UNAVAILABLE, ChannelRecall.ALREADY_READ, ChannelRecall.CANNOT_RECALL)


def stands_as(status: Status, reason: str | None, *, recallable: bool) -> ChannelRecall | None:
    """What a delivery's record says by itself; None where its provider has to be asked."""
    if status is Status.READ:
        return ChannelRecall.ALREADY_READ
    if reason == Reason.RECALLED_BY_REQUEST:
        return ChannelRecall.RECALLED
    if status is Status.CANCELLED:
        return ChannelRecall.CANCELLED
    if status in SUCCESS or status in {Status.UNKNOWN, Status.PROCESSING}:
        return None if recallable else ChannelRecall.CANNOT_RECALL
    return ChannelRecall.NOT_DELIVERED


def recall_result(channels: Sequence[ChannelRecall], *, status: Status) -> RecallResult:
    """The whole, whatever the order; `status` decides where no channel was ever planned."""
    back = [channel for channel in channels if channel in _TAKEN_BACK]
    left = [channel for channel in _LEFT if channel in channels]
    if back and left:
        return RecallResult.PARTLY_RECALLED
    if back:
        recalled = ChannelRecall.RECALLED in back
        return RecallResult.RECALLED if recalled else RecallResult.CANCELLED
    if left:
        return RecallResult(left[0].value)
    if not channels and status in SUCCESS | {Status.UNKNOWN, Status.PROCESSING}:
        return RecallResult.CANNOT_RECALL  # another notification carries it: that one can be recalled
    return RecallResult.CANCELLED if status is Status.CANCELLED else RecallResult.ALREADY_FINISHED
