"""An account that has become slow takes less of what begins, and its share again when it is quick."""

from __future__ import annotations

from collections import Counter

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.health import LEAST_CALLS, SLOW_S, SLOW_WINDOW_S
from domain.results import ResultClass
from domain.routing import LIGHTEST

STEPS = 1000
"""The random number of each is the next of so many that are spread evenly."""


class Two:
    """Accounts of one tier, cost and weight, and a clock that stands."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._turn = 0
        self._accounts = Accounts(
            (Account(name, MemoryProvider(channel=Channel.EMAIL), Slots(8)) for name in ("slow", "well")),
            clock=lambda: self.now_s, spread=self._spread,
        )  # fmt: skip

    def _spread(self) -> float:
        self._turn += 1
        return self._turn % STEPS / STEPS

    def called(self, *, slow: int, of: int) -> None:
        """So many calls over the slow one ended now."""
        account = self._accounts.get("slow")
        assert account is not None
        for k in range(of):
            took_s = SLOW_S + 1 if k < slow else 0.1
            account.health.note(ResultClass.OK, now_s=self.now_s, took_s=took_s)

    def share(self) -> float:
        """Of steps that begin, of the account that is slow."""
        chosen = Counter(account.name for _ in range(STEPS) if (account := self._accounts.first("acme", Channel.EMAIL)))
        assert sum(chosen.values()) == STEPS
        return chosen["slow"] / STEPS


def test_a_slow_account_takes_less_of_what_begins() -> None:
    two = Two()
    assert two.share() == 0.5
    two.called(slow=LEAST_CALLS, of=LEAST_CALLS * 2)
    assert two.share() == pytest.approx(1 / 3, abs=2 / STEPS), "half of its calls were slow: half of its weight is left"


def test_one_that_is_slow_throughout_takes_hardly_anything_but_never_nothing() -> None:
    two = Two()
    two.called(slow=LEAST_CALLS, of=LEAST_CALLS)
    assert 0 < two.share() <= LIGHTEST


def test_it_drifts_back_with_quick_calls_and_wholly_with_time() -> None:
    two = Two()
    two.called(slow=LEAST_CALLS, of=LEAST_CALLS)
    shares = [two.share()]
    for _ in range(3):
        two.now_s += 10
        two.called(slow=0, of=LEAST_CALLS)
        shares.append(two.share())
    assert shares == sorted(set(shares)), "each round of quick calls gives it more"
    two.now_s += SLOW_WINDOW_S - 30
    assert two.share() == 0.5, "the slow ones have left the window"
