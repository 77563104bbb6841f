"""What a recall is in all, from what it is on each channel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.recall import ChannelRecall as C
from domain.recall import RecallResult as R
from domain.recall import recall_result, stands_as
from domain.states import UNDELIVERED, Reason, Status, reasons_of


@pytest.mark.parametrize(
    ("channels", "result"),
    [
        ([C.RECALLED, C.RECALLED], R.RECALLED),
        ([C.RECALLED, C.CANCELLED, C.NOT_DELIVERED], R.RECALLED),
        ([C.CANCELLED, C.NOT_DELIVERED], R.CANCELLED),
        ([C.CANCELLED, C.CANNOT_RECALL], R.PARTLY_RECALLED),
        ([C.RECALLED, C.ALREADY_READ], R.PARTLY_RECALLED),
        ([C.CANNOT_RECALL, C.NOT_DELIVERED], R.CANNOT_RECALL),
        ([C.ALREADY_READ, C.CANNOT_RECALL], R.ALREADY_READ),
        ([C.UNAVAILABLE, C.CANNOT_RECALL], R.UNAVAILABLE),
        ([C.NOT_DELIVERED], R.ALREADY_FINISHED),
    ],
)
def test_the_whole(channels: list[C], result: R) -> None:
    assert recall_result(channels, status=Status.SENT) is result


@given(st.permutations(list(C)), st.integers(1, 6))
def test_order_means_nothing(channels: list[C], count: int) -> None:
    some = channels[:count]
    assert recall_result(some, status=Status.SENT) is recall_result(some[::-1], status=Status.SENT)


def test_nothing_planned() -> None:
    assert recall_result([], status=Status.CANCELLED) is R.CANCELLED
    assert recall_result([], status=Status.EXPIRED) is R.ALREADY_FINISHED


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.READ])
def test_only_what_may_be_somewhere_is_asked_for(status: Status) -> None:
    somewhere = {Status.SENT, Status.DELIVERED, Status.UNKNOWN, Status.PROCESSING}
    assert (stands_as(status, None, recallable=True) is None) == (status in somewhere)
    assert stands_as(status, None, recallable=False) is not None
    assert stands_as(Status.READ, None, recallable=True) is C.ALREADY_READ


def test_every_reason_is_looked_for_somewhere() -> None:
    """Lists find what ended undelivered by its reasons: one that no state has would hide notifications."""
    assert set().union(*(reasons_of(status) for status in UNDELIVERED)) == set(Reason)


def test_what_another_carries_is_not_taken_back_by_itself() -> None:
    assert recall_result([], status=Status.SENT) is R.CANNOT_RECALL
    assert recall_result([], status=Status.PROCESSING) is R.CANNOT_RECALL
    assert recall_result([], status=Status.CANCELLED) is R.CANCELLED
