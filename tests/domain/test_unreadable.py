"""Rows that no worker of this version can read."""

from __future__ import annotations

from datetime import timedelta

from domain.states import Reason
from domain.unreadable import ASIDE_WAITS, aside


def test_a_row_that_cannot_be_read_waits_for_others_and_ends() -> None:
    """First for a moment: the next version's workers are there. An hour later a deploy has been taken back."""
    waits = [aside(faults=n, attempt=1, expired=False, cancelled=False) for n in range(len(ASIDE_WAITS) + 1)]
    assert [found.wait for found in waits] == [*ASIDE_WAITS, None]
    assert waits[-1].reason is Reason.QUARANTINED
    assert sum(ASIDE_WAITS, timedelta(0)) >= timedelta(hours=1)
