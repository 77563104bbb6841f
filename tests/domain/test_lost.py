"""Which attempts may have arrived, by what is said after them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.lost import NOTHING_LOST, Lost, LostAttempt, after_answer, after_reports, recognised_over
from domain.results import ResultClass

PLAIN = (LostAttempt(1, "mail"), LostAttempt(2, "mail"))
SAME = (LostAttempt(1, "hook", recognised=True), LostAttempt(2, "hook", recognised=True))
OTHERS = [result for result in ResultClass if result is not ResultClass.UNKNOWN]
NOT_LOOKED_AT = [ResultClass.RETRY, ResultClass.RATE, ResultClass.TOKEN, ResultClass.CONFIG]
OF_THE_MESSAGE = [ResultClass.OK, ResultClass.RECIPIENT, ResultClass.PERMANENT]


def test_every_lost_attempt_is_remembered_once() -> None:
    lost = NOTHING_LOST
    for attempt in (2, 1, 2):
        lost = after_answer(lost, LostAttempt(attempt, "mail"), ResultClass.UNKNOWN)
    assert lost == PLAIN


@pytest.mark.parametrize("result", OTHERS)
def test_its_own_answer_settles_it_however_late(result: ResultClass) -> None:
    assert after_answer(PLAIN, PLAIN[0], result) == PLAIN[1:]


def test_whoever_handed_nothing_over_settles_what_was_assumed_of_it() -> None:
    assert after_answer(PLAIN, PLAIN[1], None) == PLAIN[:1]


def test_a_further_attempt_is_the_same_message_only_to_who_recognises_all_of_them() -> None:
    assert recognised_over(SAME, "hook")
    assert not recognised_over(SAME, "other hook")
    assert not recognised_over((*SAME, LostAttempt(3, "hook")), "hook")
    assert recognised_over(NOTHING_LOST, "mail")


def test_what_is_excused_holds_nothing_back() -> None:
    """Caught: a person had asked for another try; when that one was lost over an account that recognises it, it was not
    asked again."""
    excused = LostAttempt(1, "mail", excused=True)
    assert recognised_over((excused, LostAttempt(2, "hook", recognised=True)), "hook")
    assert not recognised_over((excused, LostAttempt(2, "hook")), "hook")


@pytest.mark.parametrize("result", [None, *OTHERS])
def test_another_message_says_nothing_of_it(result: ResultClass | None) -> None:
    """Also where an attempt over another account follows one over an account that recognises its own."""
    assert after_answer(PLAIN, LostAttempt(3, "mail"), result) == PLAIN
    assert after_answer(SAME, LostAttempt(3, "other hook", recognised=True), result) == SAME


@pytest.mark.parametrize("result", OF_THE_MESSAGE)
def test_who_recognises_the_message_says_what_became_of_it(result: ResultClass) -> None:
    assert after_answer((*PLAIN, *SAME), LostAttempt(3, "hook", recognised=True), result) == PLAIN


@pytest.mark.parametrize("result", NOT_LOOKED_AT)
def test_who_did_not_look_at_it_does_not(result: ResultClass) -> None:
    assert after_answer(SAME, LostAttempt(3, "hook", recognised=True), result) == SAME


def test_a_receipt_settles_its_message() -> None:
    lost = (*PLAIN, *SAME)
    assert after_reports(lost, []) == lost
    assert after_reports(lost, [("mail", 2), ("mail", 9)]) == (PLAIN[0], *SAME)
    assert after_reports(lost, [("hook", 2)]) == PLAIN, "all that it was given is one message"
    assert after_reports(lost, [("other", 1)]) == lost


ATTEMPTS = st.builds(LostAttempt, st.integers(1, 5), st.sampled_from(["a", "b"]))


@given(st.lists(st.tuples(ATTEMPTS, st.sampled_from([None, *ResultClass])), max_size=12))
def test_what_was_said_twice_is_said_once(answers: list[tuple[LostAttempt, ResultClass | None]]) -> None:
    lost: Lost = NOTHING_LOST
    for attempt, result in answers:
        lost = after_answer(lost, attempt, result)
        assert after_answer(lost, attempt, result) == lost
        assert (result is ResultClass.UNKNOWN) <= (attempt in lost)
