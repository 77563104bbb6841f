"""The marks of an open step's row (`work`), which of them stand together, and what may become of it.

A row with n = 0 is a plan: OPEN, without any mark. One with n >= 1 is a step, in one of these situations:

| state | `awaiting` | `receipt` | it |
| --- | --- | --- | --- |
| OPEN | no | none | is to be handed over when it is due |
| OPEN | no | `ON_TOP` | the same, over another account: a message is out there, and its receipt did not come |
| OPEN | yes | none | was handed over, and is due when its receipt is overdue |
| OPEN | yes | `delivered` | the same; another account would not help, and only its chain goes on |
| OPEN | yes | a failure | has failed, as its receipt says: it is due, for another account or the next channel |
| IN_HAND | no | none, `ON_TOP` | is being handed over |
| IN_HAND | yes | as above | is being looked at; nothing is handed over, and the receipt may say more meanwhile |

A failure is the name of a `ResultClass` but OK. `tried` names the accounts that failed since the step last waited; one that
names its own account waits until that is resumed, and one with `TAKEN_BY_NOBODY` until any account of its channel takes it
(`infra/postgres/engine/parked.py`). Statements write the numbers of
`WorkState` as they are.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

from domain.results import ResultClass
from domain.states import Status

ON_TOP = ResultClass.OK.value
"""It goes over another account although an earlier message of it was taken."""

TAKEN_BY_NOBODY = "*"
"""Among the accounts that were tried, and the name of none: when it was due, no account of its channel was to be called."""

_FAILURES = frozenset(one.value for one in ResultClass if one is not ResultClass.OK)


class WorkState(IntEnum):
    """Whether somebody has an open step in hand."""

    OPEN = 0
    """It waits until it is due and claimed."""
    IN_HAND = 1
    """It is claimed, and its outcome is not recorded yet."""


class Fate(StrEnum):
    """What becomes of a step's open row by an outcome (`domain.recording`) or by receipts (`domain.receipts`)."""

    KEEP = "keep"
    """Nothing: it stays as it is, where there is one."""
    END = "end"
    """It goes: nothing more is sent by it."""
    AGAIN = "again"
    """It is due again: for a retry, or when the receipt is overdue."""
    WAIT = "wait"
    """It was taken, or arrived: its receipt, or its being read, is waited for, and nothing is sent before that."""
    LOOK = "look"
    """A receipt has come that nobody acted upon: what follows is decided anew, at once."""
    RESUME = "resume"
    """There is none: the step had ended. It is open again, to be looked at."""


def is_legal(n: int, *, state: int, awaiting: bool, receipt: str | None) -> bool:
    """Whether such a row may be there."""
    if n == 0:
        return (state, awaiting, receipt) == (WorkState.OPEN, False, None)
    if awaiting:
        return receipt is None or receipt == Status.DELIVERED or receipt in _FAILURES
    return receipt in (None, ON_TOP)
