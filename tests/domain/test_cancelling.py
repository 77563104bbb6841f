"""What a cancellation says that it achieved."""

from __future__ import annotations

from typing import Any

import pytest

from domain.cancelling import CancelAnswer, CancelResult, cancel_answer
from domain.states import Status

ANSWERS = [
    (Status.CANCELLED, True, (), (), CancelResult.CANCELLED),
    (Status.CANCELLED, True, ("email",), (), CancelResult.CANCELLED),
    (Status.FAILED, True, ("email",), (), CancelResult.CANCELLED),
    (Status.SENT, True, ("email",), (), CancelResult.PARTLY_CANCELLED),
    (Status.UNKNOWN, True, ("email",), ("webhook",), CancelResult.PARTLY_CANCELLED),
    (Status.UNKNOWN, True, (), ("webhook",), CancelResult.PARTLY_CANCELLED),
    (Status.DELIVERED, False, (), (), CancelResult.ALREADY_HANDED_OFF),
    (Status.FAILED, False, (), (), CancelResult.ALREADY_FINISHED),
    (Status.UNKNOWN, False, (), ("webhook",), CancelResult.ALREADY_FINISHED),
    (Status.COLLECTED, False, (), (), CancelResult.ALREADY_HANDED_OFF),
]
"""Status, whether it was asked for in time, what was stopped, what may have arrived, the answer."""


@pytest.mark.parametrize(("status", "asked", "cancelled", "unknown", "result"), ANSWERS)
def test_what_it_achieved(
    status: Status, asked: Any, cancelled: tuple[str, ...], unknown: tuple[str, ...], result: CancelResult
) -> None:
    answer = cancel_answer(status, asked=asked, cancelled=cancelled, in_flight=(), unknown=unknown)
    assert answer == CancelAnswer(result, status, cancelled, (), unknown)


def test_what_is_being_handed_over_is_under_way_whatever_else_has_ended() -> None:
    one = cancel_answer(Status.SENT, asked=True, cancelled=[], in_flight=["webhook"], unknown=[])
    assert one == CancelAnswer(CancelResult.ALREADY_HANDED_OFF, Status.PROCESSING, (), ("webhook",))
    both = cancel_answer(Status.ACCEPTED, asked=True, cancelled=["email"], in_flight=["webhook"], unknown=[])
    assert both == CancelAnswer(CancelResult.PARTLY_CANCELLED, Status.PROCESSING, ("email",), ("webhook",))
