"""Receipts: evidence only grows, whatever the order, and what follows from it is decided once."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.receipts import (
    REPORTED,
    Consequence,
    Report,
    ReportedStep,
    better,
    consequence,
    messages_of,
    stands,
    why_failed,
)
from domain.results import ResultClass
from domain.states import SUCCESS, Reason, Status, rank
from domain.work_row import Fate

reports = st.sampled_from(sorted(REPORTED))
recorded = st.sampled_from(
    [Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED, Status.UNKNOWN, Status.RETRYING, Status.EXPIRED,
     Status.CANCELLED, Status.SUPPRESSED]
)  # fmt: skip
rows = st.sampled_from(["none", "open", "handed_over", "awaiting", "looked_at"])


@st.composite
def steps(draw: st.DrawFn) -> ReportedStep:
    row = draw(rows)
    return ReportedStep(
        draw(recorded), open=row in {"open", "awaiting"}, handed_over=row in {"handed_over", "looked_at"},
        awaiting=row in {"awaiting", "looked_at"}, wants=draw(st.sampled_from([None, Status.DELIVERED, Status.READ])),
        resumable=row == "none" and draw(st.booleans()),
    )  # fmt: skip


@given(st.lists(reports, min_size=1), st.randoms())
def test_of_one_message_any_order_with_repetitions_says_the_same(news: list[Status], random: object) -> None:
    shuffled = [*news, *news]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    known = reduce(better, shuffled, None)
    assert known == reduce(better, news, None)
    assert known in news
    assert better(known, Status.SENT) is known, "a late `sent` undoes nothing"


@given(st.lists(st.lists(reports, min_size=1), min_size=1, max_size=4), st.data())
def test_a_step_has_failed_when_all_of_its_messages_have(messages: list[list[Status]], data: st.DataObject) -> None:
    known = [reduce(better, news, None) for news in messages]
    found = stands(known)
    assert found == stands(data.draw(st.permutations([*known, None])))
    assert (found is Status.FAILED) == all(one is Status.FAILED for one in known)
    assert (found in {Status.DELIVERED, Status.READ}) == any(one in {Status.DELIVERED, Status.READ} for one in known)


def test_of_nothing_nothing_is_known() -> None:
    assert stands([]) is None
    assert stands([None, None]) is None


@given(steps(), reports)
def test_the_same_again_changes_nothing(step: ReportedStep, evidence: Status) -> None:
    """A request is repeated, and a flush is: what was done stays done and nothing more happens."""
    first = consequence(step, evidence)
    gone = first.fate is Fate.END
    back = first.fate is Fate.RESUME
    waits = step.awaiting or back or first.fate in {Fate.WAIT, Fate.LOOK}
    after = ReportedStep(
        first.status, open=(step.open and not gone) or back, handed_over=step.handed_over, awaiting=waits and not gone,
        wants=step.wants, resumable=step.resumable and not back,
    )  # fmt: skip
    again = consequence(after, evidence)
    assert again.status is first.status
    assert again.fate in {Fate.LOOK if back else first.fate, Fate.KEEP}


@given(steps(), reports)
def test_what_arrived_is_never_called_less(step: ReportedStep, evidence: Status) -> None:
    found = consequence(step, evidence)
    if step.recorded in {Status.DELIVERED, Status.READ} or evidence in SUCCESS:
        assert rank(found.status) >= rank(step.recorded)
    if evidence in {Status.DELIVERED, Status.READ}:
        assert rank(found.status) >= rank(evidence)


@given(steps(), reports)
def test_only_rows_that_are_there_are_moved(step: ReportedStep, evidence: Status) -> None:
    found = consequence(step, evidence)
    if not step.open and not step.awaiting and not step.resumable:
        assert found.fate is Fate.KEEP
    if found.fate is Fate.RESUME:
        assert step.resumable
        assert (evidence, found.status) == (Status.FAILED, Status.RETRYING)
    if step.handed_over:
        assert found.fate is not Fate.END, "whoever has it in hand says how it ends"


def test_examples() -> None:
    waiting = ReportedStep(Status.SENT, open=True, awaiting=True, wants=Status.DELIVERED)
    assert consequence(waiting, Status.DELIVERED) == Consequence(Status.DELIVERED, Fate.END)
    assert consequence(waiting, Status.FAILED) == Consequence(Status.RETRYING, Fate.LOOK)
    assert consequence(waiting, Status.SENT) == Consequence(Status.SENT)
    for_reading = ReportedStep(Status.SENT, open=True, awaiting=True, wants=Status.READ)
    assert consequence(for_reading, Status.DELIVERED) == Consequence(Status.DELIVERED, Fate.WAIT)
    ended = ReportedStep(Status.SENT)
    assert consequence(ended, Status.FAILED) == Consequence(Status.FAILED)
    assert consequence(ReportedStep(Status.EXPIRED), Status.FAILED) == Consequence(Status.EXPIRED)
    for recorded_as in (Status.SENT, Status.UNKNOWN):
        left = ReportedStep(recorded_as, resumable=True)
        assert consequence(left, Status.FAILED) == Consequence(Status.RETRYING, Fate.RESUME)
    arrived = ReportedStep(Status.DELIVERED, resumable=True)
    assert consequence(arrived, Status.FAILED) == Consequence(Status.DELIVERED)
    resend = ReportedStep(Status.RETRYING, open=True)
    assert consequence(resend, Status.SENT) == Consequence(Status.SENT, Fate.END)


def known(account: str, attempt: int, *, ours: bool = False) -> Report:
    return Report(account, attempt, ours, Status.SENT)


@pytest.mark.parametrize(
    ("reports", "messages"),
    [
        ([known("a", 1), known("a", 1, ours=True)], [0, 0]),
        ([known("a", 1), known("b", 1)], [0, 1]),
        ([known("a", 1), known("a", 2), known("a", 1, ours=True)], [0, 1, 0]),
        ([known("a", 0, ours=True)], [0]),
        ([known("a", 0, ours=True), known("a", 1), known("a", 3)], [0, 1, 0]),
        ([known("a", 0), known("a", 2)], [0, 1]),
        ([known("a", 0), known("a", 2, ours=True)], [0, 0]),
        ([known("a", 0), known("a", 0)], [0, 1]),
        ([known("a", 0), known("b", 2, ours=True)], [0, 1]),
        ([], []),
    ],
)
def test_which_names_are_one_message(reports: list[Report], messages: list[int]) -> None:
    assert messages_of(reports) == messages


names = st.builds(Report, st.sampled_from("ab"), st.integers(0, 3), st.booleans(), st.none() | reports)


@given(st.lists(names, max_size=8), st.randoms())
def test_the_order_of_names_does_not_matter(known: list[Report], random: object) -> None:
    shuffled = list(range(len(known)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = messages_of(known), messages_of([known[place] for place in shuffled])
    for x, a in enumerate(shuffled):
        for y, b in enumerate(shuffled):
            assert (one[a] == one[b]) == (other[x] == other[y])
            if one[a] == one[b]:
                assert known[a].account == known[b].account


def test_why_it_failed() -> None:
    assert why_failed(ResultClass.RECIPIENT) is Reason.RECIPIENT_REFUSED
    assert why_failed(ResultClass.RETRY) is Reason.UNDELIVERED
