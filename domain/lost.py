"""Attempts that may have arrived: handed over, and nothing has said yet what became of them.

A step remembers them, whatever is tried after them. While there is one, the step ends in no state that says that nothing
was taken: what would have been `failed`, `expired`, `cancelled` or `suppressed` is `unknown` (docs/decisions/0044). What
became of such an attempt is known by

| its own answer, late | any but UNKNOWN |
| its own claim, late, that nothing was handed over by it | none |
| its receipt | any |
| a later attempt's answer, of an account that recognises a repeated delivery id | OK, RECIPIENT, PERMANENT |

and by nothing else. Who recognises the id was asked about the same message: had he taken it, he would have said OK. RETRY,
RATE and CONFIG say that he did not look at it. To anybody else a later attempt is another message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from domain.results import ResultClass

_OF_THE_MESSAGE = frozenset({ResultClass.OK, ResultClass.RECIPIENT, ResultClass.PERMANENT})
"""Answers that say of the message what became of it; the others say that it was not looked at."""


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt whose answer was lost."""

    attempt: int
    account: str
    recognised: bool = False
    """The account recognises a repeated delivery id: all that it was given of the step is one message."""
    excused: bool = False
    """Somebody has asked for another try, although it may have arrived (`infra.postgres.engine.reopening`)."""


Lost: TypeAlias = tuple[LostAttempt, ...]
"""Of one step, in the order of its attempts."""

NOTHING_LOST: Lost = ()


def after_answer(lost: Lost, attempt: LostAttempt, result: ResultClass | None) -> Lost:
    """What may have arrived after `attempt` was answered with `result`; None: nothing was handed over."""
    if result is None:
        return without(lost, attempt.attempt)
    if result is ResultClass.UNKNOWN:
        return tuple(sorted((*without(lost, attempt.attempt), attempt), key=lambda one: one.attempt))
    same = attempt.recognised and result in _OF_THE_MESSAGE
    return tuple(one for one in without(lost, attempt.attempt) if not (same and _alike(one, attempt.account)))


def without(lost: Lost, attempt: int) -> Lost:
    """What may have arrived beside this attempt, which did not, or of which it is known by now."""
    return tuple(one for one in lost if one.attempt != attempt)


def recognised_over(lost: Lost, account: str) -> bool:
    """Whether a further attempt over this account is to whoever may have taken it the same message; to all of them, but for
    what is excused."""
    return all(one.excused or _alike(one, account) for one in lost)


def after_reports(lost: Lost, reported: Iterable[tuple[str, int]]) -> Lost:
    """What may have arrived beside what receipts have told of. `reported`: the account and attempt of each message of which
    it is known by now whether it arrived."""
    known = frozenset(reported)
    accounts = {account for account, _ in known}
    return tuple(
        one for one in lost
        if (one.account, one.attempt) not in known and not (one.recognised and one.account in accounts)
    )  # fmt: skip


def _alike(one: LostAttempt, account: str) -> bool:
    return one.recognised and one.account == account
