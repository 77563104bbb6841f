"""States: evidence only grows, and the end of a notification is the best of its deliveries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.states import FINAL, SUCCESS, DeliveryState, Outcome, Reason, Status, Strategy, merge, outcome, rank

statuses = st.sampled_from(Status)
reasons = st.none() | st.sampled_from(Reason)
ended = st.builds(DeliveryState, st.sampled_from(sorted(FINAL)), reasons)
strategies = st.sampled_from(Strategy)


@given(statuses, statuses)
def test_merge_never_loses_evidence(known: Status, news: Status) -> None:
    """A late `unknown` must never undo `delivered`."""
    assert rank(merge(known, news)) == max(rank(known), rank(news))


@given(st.lists(statuses, min_size=1), st.randoms())
def test_merge_does_not_depend_on_the_order_of_news(news: list[Status], random: object) -> None:
    """Receipts and our own record come in any order, and more than once."""

    def merged(order: list[Status]) -> Status:
        state = order[0]
        for status in order[1:]:
            state = merge(state, status)
        return state

    shuffled = [*news, *news]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merged(shuffled) == merged(news)


def test_every_status_has_a_rank_of_its_own() -> None:
    """Two equal ranks would make the first news win."""
    assert len({rank(status) for status in Status}) == len(Status)


@given(st.lists(ended, min_size=1), strategies)
def test_the_best_delivery_is_the_outcome(deliveries: list[DeliveryState], strategy: Strategy) -> None:
    """It arrived if it arrived anywhere."""
    end = outcome(deliveries, strategy=strategy)
    assert end.status is max((d.status for d in deliveries), key=rank)
    assert end.status in FINAL
    assert (end.reason is None) if end.status in SUCCESS else any(end.reason == d.reason for d in deliveries)


few = st.builds(DeliveryState, st.sampled_from([Status.FAILED, Status.EXPIRED]), reasons)


@given(st.lists(ended, min_size=1, max_size=4) | st.lists(few, min_size=2, max_size=4), strategies, st.data())
def test_the_outcome_does_not_depend_on_the_order(
    deliveries: list[DeliveryState], strategy: Strategy, data: st.DataObject
) -> None:  # fmt: skip
    """Caught: of two failures the first one's reason was told, and rows come in any order: the end changed by itself."""
    shuffled = data.draw(st.permutations(deliveries))
    assert outcome(shuffled, strategy=strategy) == outcome(deliveries, strategy=strategy)


@given(st.lists(ended, min_size=1), strategies)
def test_partial_is_a_success_of_all_with_a_failure_beside_it(deliveries: list[DeliveryState], strategy: Strategy) -> None:
    """In a chain a failed place before the one that arrived is how chains work."""
    end = outcome(deliveries, strategy=strategy)
    failed = any(d.status in {Status.FAILED, Status.UNKNOWN, Status.EXPIRED} for d in deliveries)
    assert end.partial is (end.status in SUCCESS and failed and strategy is Strategy.ALL)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_no_delivery_at_all(strategy: Strategy) -> None:
    """There was no channel that could carry it."""
    assert outcome([], strategy=strategy) == Outcome(Status.SUPPRESSED, Reason.NO_CHANNEL, partial=False)


@pytest.mark.parametrize(
    ("deliveries", "status", "reason", "partial"),
    [
        ("sent failed", "sent", None, True),
        ("delivered sent", "delivered", None, False),
        ("unknown failed", "unknown", "answer_lost", False),
        ("failed expired", "failed", "retries_exhausted", False),
        ("sent suppressed", "sent", None, False),
        ("sent cancelled", "sent", None, False),
        ("cancelled suppressed", "cancelled", "cancelled_by_request", False),
    ],
)
def test_examples(deliveries: str, status: str, reason: str | None, partial: bool) -> None:  # noqa: FBT001 - a table
    """What people would say of these."""
    because = {
        "failed": Reason.RETRIES_EXHAUSTED, "unknown": Reason.ANSWER_LOST, "cancelled": Reason.CANCELLED_BY_REQUEST,
    }  # fmt: skip
    found = [DeliveryState(Status(word), because.get(word)) for word in deliveries.split()]
    assert outcome(found, strategy=Strategy.ALL) == Outcome(Status(status), reason, partial)
