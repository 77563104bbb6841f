"""Marks of an open step: which stand together. That no other row comes about, the engine's state machine looks."""

from __future__ import annotations

import pytest

from domain.work_row import ON_TOP, WorkState, is_legal

OPEN, IN_HAND = WorkState
LEGAL = [
    (0, OPEN, False, None),
    (1, OPEN, False, None),
    (1, OPEN, False, ON_TOP),
    (1, OPEN, True, None),
    (1, OPEN, True, "delivered"),
    (1, OPEN, True, "RECIPIENT"),
    (1, IN_HAND, False, None),
    (1, IN_HAND, False, ON_TOP),
    (2, IN_HAND, True, "delivered"),
]
"""n, `state`, `awaiting`, `receipt`."""
ILLEGAL = [
    (0, IN_HAND, False, None),
    (0, OPEN, True, None),
    (1, OPEN, False, "delivered"),
    (1, OPEN, False, "RETRY"),
    (1, OPEN, True, ON_TOP),
    (1, IN_HAND, True, "sent"),
]


@pytest.mark.parametrize(("n", "state", "awaiting", "receipt"), LEGAL)
def test_what_may_be_there(n: int, state: WorkState, awaiting: object, receipt: str | None) -> None:
    assert is_legal(n, state=state, awaiting=bool(awaiting), receipt=receipt)


@pytest.mark.parametrize(("n", "state", "awaiting", "receipt"), ILLEGAL)
def test_what_may_not(n: int, state: WorkState, awaiting: object, receipt: str | None) -> None:
    assert not is_legal(n, state=state, awaiting=bool(awaiting), receipt=receipt)
