"""The judge itself: each unknown that was made again explains one arrival more, and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.e2e.checker import Step, wrong_with


def judged(
    *taken: int, steps: Sequence[Step] | None = None, resends: int = 0, successes: int = 1, **changes: Any
) -> list[str]:
    """What is wrong where each step was taken so many times."""
    state = {"status": "sent", "reason": None, "final": True, "finished": True, "open": False, "unknowns": 0,
             "fallbacks": 0, "strategy": "fallback"}  # fmt: skip
    if steps is None:
        steps = [Step(1, "sent", resends, successes)]
    times = Counter(dict(enumerate(taken, start=1)))
    return wrong_with({**state, "steps": steps, **changes}, times, unknowns=True, ends=("sent",))


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
    assert judged(1, status="unknown", unknowns=1, steps=[Step(1, "unknown", 0, 0)]) == []


def test_a_chain_arrives_over_one_place_unless_it_is_unknown_whether_an_earlier_one_did() -> None:
    both = [Step(1, "failed", 0, 0), Step(2, "sent", 0, 1)]
    assert judged(0, 1, steps=both) == []
    assert judged(1, 1, steps=both)
    assert judged(1, 1, steps=both, unknowns=1, fallbacks=1) == []


def test_all_channels_arrive_and_each_of_them_once() -> None:
    both = [Step(1, "sent", 0, 1), Step(2, "sent", 0, 1)]
    assert judged(1, 1, steps=both, strategy="all") == []
    assert judged(1, 0, steps=both, strategy="all")
    assert judged(2, 0, steps=both, strategy="all")
