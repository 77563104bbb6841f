"""When a provider refuses the account itself, and when it does not any more."""

from __future__ import annotations

import pytest

from domain.refusal import IN_A_ROW, Refusal
from domain.results import ResultClass


def refused(*answers: ResultClass) -> str | None:
    refusal = Refusal()
    for number, answer in enumerate(answers):
        refusal.note(answer, str(number))
    return refusal.said


def test_it_takes_several_with_nothing_taken_between_them() -> None:
    config = [ResultClass.CONFIG] * IN_A_ROW
    assert refused(*config[1:]) is None
    assert refused(*config) == f"CONFIG {IN_A_ROW - 1}"
    assert refused(*config[1:], ResultClass.OK, *config[1:]) is None


@pytest.mark.parametrize("answer", [ResultClass.OK, ResultClass.RATE, ResultClass.RECIPIENT, ResultClass.PERMANENT])
def test_what_was_judged_for_its_own_sake_ends_it(answer: ResultClass) -> None:
    assert refused(*[ResultClass.TOKEN] * IN_A_ROW, answer) is None


@pytest.mark.parametrize("answer", [ResultClass.RETRY, ResultClass.UNKNOWN])
def test_a_time_out_says_nothing_about_it(answer: ResultClass) -> None:
    assert refused(*[ResultClass.CONFIG] * IN_A_ROW, answer) is not None
    assert refused(*[answer] * IN_A_ROW) is None
