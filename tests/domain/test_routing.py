"""Which account takes a step."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from domain.channels import Channel
from domain.routing import Route, choose, routes_of

EMAIL, WEBHOOK = Channel.EMAIL, Channel.WEBHOOK


def route(name: str, **more: object) -> Route:
    return Route(name, EMAIL, **more)  # type: ignore[arg-type]


def chosen(routes: list[Route], *, times: int = 1000, **how: object) -> Counter[str | None]:
    found = [choose(routes, spread=k / times, **how) for k in range(times)]  # type: ignore[arg-type]
    return Counter(r.account if r else None for r in found)


def test_a_tenant_with_accounts_of_its_own_uses_no_other() -> None:
    ours, theirs, all_ = route("acme/a", tenant="acme"), route("other/a", tenant="other"), route("default")
    assert list(routes_of([all_, ours, theirs], tenant="acme", channel=EMAIL)) == [ours]
    assert list(routes_of([all_, ours, theirs], tenant="third", channel=EMAIL)) == [all_]
    assert list(routes_of([ours], tenant="acme", channel=WEBHOOK)) == []


def test_order_comes_before_cost_and_cost_before_weight() -> None:
    cheap, dear, second = route("cheap", cost=0.01), route("dear", cost=0.05, weight=99), route("second", order=1, cost=0.0)
    assert chosen([second, dear, cheap]) == {"cheap": 1000}
    assert chosen([second, dear, cheap], tried=["cheap"]) == {"dear": 1000}
    assert chosen([second, dear, cheap], tried=["cheap", "dear"]) == {"second": 1000}
    assert chosen([second, dear, cheap], tried=["cheap", "dear", "second"]) == {None: 1000}


def test_equal_ones_share_by_weight_and_slowness_takes_from_it() -> None:
    one, three = route("one", weight=1), route("three", weight=3)
    assert chosen([one, three]) == {"one": 250, "three": 750}
    slow = chosen([one, three], share=lambda name: 0.0 if name == "three" else 1.0)
    assert 0 < slow["three"] < 60, "hardly used, but still seen"


def test_without_weight_only_when_no_other_can() -> None:
    spare, one = route("spare", weight=0), route("one")
    assert chosen([spare, one]) == {"one": 1000}
    assert chosen([spare, one], usable=lambda name: name != "one") == {"spare": 1000}


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=6),
    st.sets(st.integers(0, 5)),
    st.floats(0, 1, exclude_max=True),
)
def test_whatever_is_chosen_is_the_best_that_was_not_tried(
    shapes: list[tuple[int, int, int]], tried: set[int], spread: float
) -> None:
    routes = [route(str(k), order=o, cost=float(c), weight=w) for k, (o, c, w) in enumerate(shapes)]
    found = choose(routes, spread=spread, tried=[str(k) for k in tried])
    left = [r for r in routes if int(r.account) not in tried]
    if found is None:
        assert left == []
    else:
        assert found in left
        assert found.order == min(r.order for r in left)
