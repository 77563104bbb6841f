"""The recheck: of several things that have changed, the one that is told."""

from __future__ import annotations

import pytest

from domain.rechecks import Verdict, verdict

NOTHING = {
    "cancelled": False, "stale": False, "gone": False, "expired": False, "suppressed": False, "permitted": True,
    "waits": False,
}  # fmt: skip
CHANGES = [
    ("cancelled", Verdict.CANCELLED),
    ("stale", Verdict.STALE),
    ("gone", Verdict.GONE),
    ("expired", Verdict.EXPIRED),
    ("suppressed", Verdict.SUPPRESSED),
    ("permitted", Verdict.OPTED_OUT),
    ("waits", Verdict.NOT_NOW),
]
"""In the order in which they count."""


def test_what_has_not_changed_is_sent() -> None:
    assert verdict(**NOTHING) is Verdict.SEND


@pytest.mark.parametrize("place", range(len(CHANGES)))
def test_the_first_of_them_counts(place: int) -> None:
    name, found = CHANGES[place]
    assert verdict(**NOTHING | {name: not NOTHING[name]}) is found
    with_all_later = {later: not NOTHING[later] for later, _ in CHANGES[place:]}
    assert verdict(**NOTHING | with_all_later) is found
