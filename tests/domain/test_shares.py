"""Shares of an account's slots where each message goes to a server of its recipient, and throttles."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from domain.health import SLOW_S
from domain.shares import LONGEST_WAIT_S, MOST_EXCEPTIONS, MOST_IN_ALL, MOST_TARGETS, Shares, Target, endpoint_of
from domain.throttle import FIRST_S, LONGEST_OWN_S, LONGEST_STATED_S, Throttle

CAPACITY = 128
A: Target = ("a", "https://hook.a.example")


class Calls:
    """An account's calls, as a worker makes them."""

    def __init__(self, *, shared: bool = True) -> None:
        self.shares, self.shared, self.now_s = Shares(), shared, 100.0
        self.open: dict[int, Target] = {}
        self._ids = itertools.count()

    @property
    def free(self) -> int:
        return CAPACITY - len(self.open)

    def wait_s(self, target: Target) -> float:
        return self.shares.wait_s(target, free=self.free, shared=self.shared, now_s=self.now_s)

    def begin(self, target: Target, most: int) -> int:
        """As many as it may have, up to `most`."""
        begun = 0
        while begun < most and self.free and self.wait_s(target) <= 0:
            call = next(self._ids)
            self.open[call] = target
            self.shares.begin(call, target, now_s=self.now_s)
            begun += 1
        return begun

    def end(self, target: Target, most: int = CAPACITY) -> None:
        for call in [c for c, t in self.open.items() if t == target][:most]:
            self.shares.end(call, self.open.pop(call), now_s=self.now_s, answered=True)

    def blocked(self) -> set[tuple[str, str | None]]:
        found = self.shares.blocked(free=self.free, shared=self.shared, now_s=self.now_s)
        return {(one.tenant, one.endpoint) for one in found}


def test_one_who_answers_soon_may_use_every_slot() -> None:
    """Catches: shares that halve what a healthy account does."""
    calls = Calls()
    calls.begin(A, 1)
    calls.end(A)
    assert calls.begin(A, CAPACITY) == CAPACITY


@given(st.integers(1, 6))
def test_at_the_first_moment_a_few_that_hang_leave_a_slot_for_others(tenants: int) -> None:
    """Nobody knows yet that they do."""
    calls = Calls()
    for k in range(tenants):
        calls.begin((f"t{k}", "https://hangs.example"), CAPACITY)
    assert calls.begin(("new", "https://quick.example"), 1) == 1


@given(st.integers(1, 40))
def test_however_many_receivers_hang_somebody_else_finds_a_slot(tenants: int) -> None:
    """Once their first calls have timed out."""
    calls = Calls()
    hanging = [(f"t{k}", "https://hangs.example") for k in range(tenants)]
    for _ in range(4 * CAPACITY):
        for target in hanging:
            calls.begin(target, CAPACITY)
        calls.now_s += SLOW_S + 0.1
        calls.end(next(iter(calls.open.values())), 1)
    assert calls.free >= CAPACITY // (tenants + 2)
    assert calls.begin(("new", "https://quick.example"), 1) == 1


def test_one_tenant_with_many_hosts_that_hang_has_no_more_than_half() -> None:
    calls = Calls()
    for k in range(CAPACITY * 2):
        calls.begin(("a", f"https://h{k}.example"), 1)
    assert calls.free == CAPACITY // 2
    assert ("a", None) in calls.blocked()
    assert calls.begin(("b", "https://b.example"), 8) == 8


def test_a_tenants_quick_hosts_are_served_beside_its_slow_ones() -> None:
    """Catches: an OTP to a healthy endpoint that waits for the same tenant's broken ones."""
    calls, quick = Calls(), ("a", "https://quick.example")
    calls.begin(quick, 1)
    calls.end(quick)
    for k in range(CAPACITY * 2):
        calls.begin(("a", f"https://h{k}.example"), 1)
    calls.now_s += SLOW_S * 2
    assert calls.begin(quick, 5) == 5
    [blocked] = calls.shares.blocked(free=calls.free, shared=True, now_s=calls.now_s)
    assert blocked.but == (quick[1],)


def test_who_has_been_slow_leaves_most_of_the_slots_and_gets_them_back() -> None:
    calls = Calls()
    calls.begin(A, 1)
    calls.now_s += SLOW_S * 2
    calls.end(A)
    assert calls.begin(A, CAPACITY) < CAPACITY // 2
    assert A in calls.blocked()
    first_s = calls.wait_s(A)
    calls.now_s += 3600
    assert first_s < calls.wait_s(A) <= LONGEST_WAIT_S, "the longer it lasts, the more seldom it is looked at"
    calls.end(A)
    calls.begin(A, 1)
    calls.end(A)
    assert calls.begin(A, CAPACITY) == CAPACITY
    assert calls.blocked() == set()


def test_a_tenants_own_account_is_its_own() -> None:
    """Only one slow host of it holds back nobody else's."""
    calls = Calls(shared=False)
    assert calls.begin(A, CAPACITY) == CAPACITY, "nobody knows yet that it hangs"
    calls.now_s += SLOW_S * 2
    calls.end(A)
    calls.begin(A, CAPACITY)
    assert calls.begin(("a", "https://other.example"), 10) == 10


def test_a_throttled_endpoint_waits_alone() -> None:
    calls = Calls()
    calls.begin(A, 1)
    calls.shares.throttled(A, 60.0, now_s=calls.now_s, took_s=0.1)
    calls.end(A)
    assert calls.wait_s(A) == 60.0
    assert calls.blocked() == {A}
    assert calls.wait_s(("a", "https://other.example")) == 0
    assert calls.wait_s(("b", A[1])) == 0, "what it says to one tenant holds back nobody else"
    calls.now_s += 60
    assert calls.wait_s(A) == 0
    assert calls.blocked() == set()


def test_no_more_targets_are_remembered_than_there_is_room_for() -> None:
    calls = Calls()
    calls.begin(A, 1)
    calls.shares.throttled(A, 600.0, now_s=calls.now_s, took_s=0.1)
    calls.end(A)
    for k in range(MOST_TARGETS * 2):
        calls.begin(("a", f"https://h{k}.example"), 1)
        calls.end(("a", f"https://h{k}.example"))
    assert calls.wait_s(A) > 0, "what is held back is not forgotten"
    assert len(calls.shares._tenants["a"].endpoints) == MOST_TARGETS


def test_a_tenant_whose_every_endpoint_throttles_fills_no_memory() -> None:
    """Catches: a gateway that answers 429 on ten thousand paths, each remembered, and all looked through for each."""
    calls = Calls()
    for k in range(MOST_TARGETS * 3):
        each = ("a", f"https://gateway.example/{k}")
        calls.begin(each, 1)
        calls.shares.throttled(each, 600.0, now_s=calls.now_s, took_s=0.1)
        calls.end(each)
    assert len(calls.shares._tenants["a"].endpoints) == MOST_TARGETS
    assert len(calls.shares._held) == MOST_TARGETS


def test_an_endpoint_is_a_url_without_its_query() -> None:
    """Catches: one path that hangs, and all others of its gateway that are held back with it."""
    assert endpoint_of("https://hook.example.com:8443/a?b#c") == "https://hook.example.com:8443/a"
    assert endpoint_of("https://hook.example.com/a") != endpoint_of("https://hook.example.com/b")
    assert endpoint_of("") == ""


def test_a_stated_wait_is_kept_and_an_unstated_one_grows_until_something_is_taken() -> None:
    throttle, waits = Throttle(), []
    throttle.hold(60.0, now_s=0.0, took_s=0.1)
    throttle.hold(5.0, now_s=1.0, took_s=0.1)
    assert throttle.wait_s(0.0) == 60.0, "a shorter one does not cut it short"
    at_s = 61.0
    for _ in range(10):
        throttle.hold(0.0, now_s=at_s, took_s=0.1)
        throttle.hold(0.0, now_s=at_s + 0.01, took_s=0.2)  # its neighbour, in flight at the same time
        waits.append(throttle.wait_s(at_s))
        at_s += waits[-1] + 1
    assert waits[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert max(waits) == LONGEST_OWN_S
    throttle.ease(now_s=at_s, took_s=0.1)
    throttle.hold(0.0, now_s=at_s + 1, took_s=0.1)
    assert throttle.wait_s(at_s + 1) == FIRST_S
    throttle.hold(86_400.0, now_s=at_s, took_s=0.1)
    assert throttle.wait_s(at_s) == LONGEST_STATED_S, "one answer does not stop an account for a day"


def test_many_endpoints_that_hang_are_asked_less_and_less() -> None:
    """Caught: each call that ended made the wait for all others short again, and hundreds of claims a second vain."""
    calls, waits = Calls(), list[float]()
    ends: list[tuple[float, Target]] = []
    for k in range(600):
        calls.now_s += 0.1
        for at_s, target in [one for one in ends if one[0] <= calls.now_s]:
            calls.end(target)
            ends.remove((at_s, target))
        target = ("a", f"https://gateway.example/{k}")
        if (wait_s := calls.wait_s(target)) > 0:
            waits.append(wait_s)
        else:
            calls.begin(target, 1)
            ends.append((calls.now_s + 9.0, target))
    assert max(waits) > 10


def test_a_tenant_with_more_quick_endpoints_than_are_remembered_has_most_slots() -> None:
    """Caught: nearly all of them were unknown, and half of the slots was all they had."""
    calls = Calls()
    for k in range(MOST_TARGETS + 10):
        calls.begin(("a", f"https://gateway.example/{k}"), 1)
        calls.end(("a", f"https://gateway.example/{k}"))
    begun = sum(calls.begin(("a", f"https://gateway.example/new/{k}"), 1) for k in range(CAPACITY))
    assert CAPACITY / 2 < begun < CAPACITY
    assert calls.begin(("b", "https://hook.b.example"), 1) == 1


def test_what_answered_last_is_named_as_quick() -> None:
    """Caught: only those that were known last were, though older ones had just answered."""
    calls, old = Calls(), ("a", "https://gateway.example/old")
    calls.begin(old, 1)
    for k in range(MOST_EXCEPTIONS + 10):
        calls.begin(("a", f"https://gateway.example/{k}"), 1)
        calls.end(("a", f"https://gateway.example/{k}"))
    calls.end(old)
    assert old[1] in calls.shares._tenants["a"].quick()


def test_idle_tenants_are_forgotten_where_too_much_is_known() -> None:
    calls = Calls()
    for tenant in range(MOST_IN_ALL // 100 + 5):
        for k in range(100):
            calls.begin((f"t{tenant}", f"https://h{k}.example"), 1)
            calls.end((f"t{tenant}", f"https://h{k}.example"))
    known = sum(len(its.endpoints) for its in calls.shares._tenants.values())
    assert known == calls.shares._count <= MOST_IN_ALL
