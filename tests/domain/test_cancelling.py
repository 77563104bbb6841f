"""What a cancellation says that it achieved."""

from __future__ import annotations

import pytest

from domain.cancelling import CancelAnswer, CancelResult, cancel_answer
from domain.states import Status

ANSWERS = [
    (Status.CANCELLED, (), (), CancelResult.CANCELLED),
    (Status.CANCELLED, ("email",), (), CancelResult.CANCELLED),
    (Status.FAILED, ("email",), (), CancelResult.CANCELLED),
    (Status.SENT, ("email",), (), CancelResult.PARTLY_CANCELLED),
    (Status.UNKNOWN, ("email",), (), CancelResult.PARTLY_CANCELLED),
    (Status.DELIVERED, (), (), CancelResult.ALREADY_HANDED_OFF),
    (Status.FAILED, (), (), CancelResult.ALREADY_FINISHED),
    (Status.UNKNOWN, (), (), CancelResult.ALREADY_FINISHED),
    (Status.COLLECTED, (), (), CancelResult.ALREADY_HANDED_OFF),
]
"""Status, what was stopped, what is being handed over, the answer."""


@pytest.mark.parametrize(("status", "cancelled", "in_flight", "result"), ANSWERS)
def test_what_it_achieved(
    status: Status, cancelled: tuple[str, ...], in_flight: tuple[str, ...], result: CancelResult
) -> None:
    answer = cancel_answer(status, cancelled=cancelled, in_flight=in_flight)
    assert answer == CancelAnswer(result, status, cancelled, in_flight)


def test_what_is_being_handed_over_is_under_way_whatever_else_has_ended() -> None:
    one = cancel_answer(Status.SENT, cancelled=[], in_flight=["webhook"])
    assert one == CancelAnswer(CancelResult.ALREADY_HANDED_OFF, Status.PROCESSING, (), ("webhook",))
    both = cancel_answer(Status.ACCEPTED, cancelled=["email"], in_flight=["webhook"])
    assert both == CancelAnswer(CancelResult.PARTLY_CANCELLED, Status.PROCESSING, ("email",), ("webhook",))
