"""The judge itself: each unknown that was made again explains one arrival more, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.checker import wrong_with


def judged(taken: int, *, ends: tuple[str, ...] = ("sent",), **changes: Any) -> list[str]:
    state = {"status": "sent", "reason": None, "final": True, "finished": True, "open": False, "unknowns": 0, "resends": 0}
    return wrong_with({**state, "successes": 1, **changes}, taken, unknowns=True, ends=ends)


@pytest.mark.parametrize(
    ("taken", "unknowns", "resends", "right"),
    [
        (1, 0, 0, True), (2, 0, 0, False),
        (2, 1, 1, True), (3, 1, 1, False), (5, 1, 1, False),
        (3, 2, 2, True), (4, 2, 2, False),
        (2, 1, 0, False), (1, 1, 0, True), (3, 2, 1, False),
    ],
)  # fmt: skip
def test_as_many_arrivals_as_unknowns_explain(taken: int, unknowns: int, resends: int, *, right: bool) -> None:
    assert (judged(taken, unknowns=unknowns, resends=resends) == []) is right


def test_successes_count_as_arrivals() -> None:
    assert judged(1, successes=2)
    assert judged(2, successes=2, unknowns=1, resends=1) == []


def test_what_is_called_sent_arrived_and_what_is_open_is_not_final() -> None:
    assert judged(0)
    assert judged(1, open=True)
    assert judged(1, status="failed")
    assert judged(1, status="unknown", unknowns=1, successes=0) == []
