"""Which channels of what arrived in part go again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.partials import AS_A_RULE, MissedStep, Partial, Refusal, Wanted, steps_again
from domain.states import MISSED, Status

FAILED = MissedStep(2, "webhook", Status.FAILED, "endpoint_refused", "https://hook.example.com")
EXPIRED = MissedStep(3, "inapp", Status.EXPIRED, "expired_before_retry", "u-1")
UNKNOWN = MissedStep(4, "email", Status.UNKNOWN, "answer_lost", "a@example.com")
FOUND = Partial(Status.SENT, final=False, partial=True, steps=[FAILED, EXPIRED, UNKNOWN])


@pytest.mark.parametrize(
    ("wanted", "again"),
    [
        (Wanted(), [FAILED, EXPIRED]),
        (Wanted(MISSED), [FAILED, EXPIRED, UNKNOWN]),
        (Wanted(frozenset({Status.UNKNOWN})), [UNKNOWN]),
        (Wanted(AS_A_RULE, channel="inapp"), [EXPIRED]),
        (Wanted(AS_A_RULE, reason="endpoint_refused"), [FAILED]),
        (Wanted(AS_A_RULE, channel="inapp", reason="endpoint_refused"), Refusal.OTHER_CHANNEL),
        (Wanted(AS_A_RULE, channel="email"), Refusal.MAY_HAVE_ARRIVED),
        (Wanted(frozenset({Status.EXPIRED}), channel="webhook"), Refusal.OTHER_CHANNEL),
    ],
)
def test_what_is_asked_for(wanted: Wanted, again: list[MissedStep] | Refusal) -> None:
    assert steps_again(FOUND, wanted) == again


@pytest.mark.parametrize(
    ("steps", "again"),
    [
        ([replace(FAILED, suppressed=True), EXPIRED], [EXPIRED]),
        ([replace(FAILED, address=None), EXPIRED], [EXPIRED]),
        ([replace(FAILED, suppressed=True)], Refusal.ADDRESS_SUPPRESSED),
        ([replace(FAILED, address=None)], Refusal.NO_ADDRESS),
    ],
)
def test_where_there_is_no_way(steps: list[MissedStep], again: list[MissedStep] | Refusal) -> None:
    assert steps_again(replace(FOUND, steps=steps), Wanted()) == again


@pytest.mark.parametrize(
    ("status", "final", "refused"),
    [
        (Status.ACCEPTED, False, Refusal.STILL_OPEN),
        (Status.SENT, False, Refusal.ARRIVED),
        (Status.READ, True, Refusal.ARRIVED),
        (Status.FAILED, True, Refusal.NOT_PARTIAL),
    ],
)
def test_what_is_not_partial(status: Status, final: bool, refused: Refusal) -> None:  # noqa: FBT001 - a table
    whole = Partial(status, final=final, partial=False, steps=[], stands_against=Refusal.CANCELLED)
    assert steps_again(whole, Wanted()) is refused


def test_what_stands_against_all_of_it_comes_first() -> None:
    assert steps_again(replace(FOUND, stands_against=Refusal.RECALLED), Wanted(MISSED)) is Refusal.RECALLED
