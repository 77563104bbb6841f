"""What follows an answer that is no success, as data: a rule for each case, over the waits of the message's lane.

    waits of a case in a lane = the lane's WAITS, the first `most` of them, none below `least` or above `longest`

`domain.attempts` decides by these tables and has no wait, count or end of its own. docs/operations.md shows what comes of
them ("What follows an answer"; a test compares).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from domain.lanes import Lane
from domain.results import Refuser, ResultClass, SendResult
from domain.states import Reason, Status

JITTER = 0.2
"""Waits are spread by this share to both sides, so that what failed together does not come back together."""
MOST_ATTEMPTS = 30_000
"""The number of a claim is a smallint wherever it stands. By RATE's longest wait even 90 days do not come near it."""


class Case(StrEnum):
    """An answer's class, with what else makes a difference."""

    RETRY = "RETRY"
    """5xx, 4yz, no connection."""
    RETRY_ONE = "RETRY of one recipient"
    """Greylisting, a full mailbox."""
    RATE = "RATE"
    """429, or a stated wait."""
    TOKEN = "TOKEN"  # noqa: S105 - a class of answers, not a secret
    """A credential that has expired."""
    CONFIG = "CONFIG"
    """Wrong credentials, a quota, an allow-list."""
    RECIPIENT = "RECIPIENT"
    """An address that is dead or has opted out."""
    PERMANENT = "PERMANENT"
    """A payload or template that is refused."""
    ENDPOINT = "PERMANENT of the endpoint"
    """Not there, moved, or not to be called."""
    MAILBOX_FULL = "PERMANENT, mailbox full"
    LOST_HOLD = "UNKNOWN, hold"
    """A lost answer: it may have been taken, and the provider would not know that it comes again."""
    LOST_RESEND = "UNKNOWN, resend"
    KNOWN_HOLD = "UNKNOWN, hold, recognised"
    """A lost answer of a provider that recognises a repeated delivery id: sending again cannot show twice."""
    KNOWN_RESEND = "UNKNOWN, resend, recognised"


_REFUSED_BY = {Refuser.ENDPOINT: Case.ENDPOINT, Refuser.MAILBOX_FULL: Case.MAILBOX_FULL}
_LOST_CASES = {
    (False, False): Case.LOST_HOLD,
    (False, True): Case.LOST_RESEND,
    (True, False): Case.KNOWN_HOLD,
    (True, True): Case.KNOWN_RESEND,
}
"""By: the provider recognises it; it is to be sent again."""


def case_of(result: SendResult, *, recognised: bool, resend: bool) -> Case:
    """Which case an answer other than OK is. `recognised`: a repeated delivery id is; `resend`: `on_unknown`."""
    if result.result is ResultClass.UNKNOWN:
        return _LOST_CASES[recognised, resend]
    if result.result is ResultClass.RETRY and result.of_recipient:
        return Case.RETRY_ONE
    if result.result is ResultClass.PERMANENT and result.refuser is not None:
        return _REFUSED_BY[result.refuser]
    return Case(result.result.value)


class Elsewhere(StrEnum):
    """When another account of the channel is used, where one is usable and was not tried since the last wait."""

    NEVER = "no"
    AT_ONCE = "at once"
    """Which costs no try and no wait."""
    AFTER_WAIT = "after the wait"


class End(NamedTuple):
    status: Status
    reason: Reason


_LATE = End(Status.FAILED, Reason.NOT_TAKEN_IN_TIME)
_EXPIRED = End(Status.EXPIRED, Reason.EXPIRED_BEFORE_RETRY)


@dataclass(frozen=True, slots=True)
class Ends:
    """How a step ends, by what ends it."""

    tried: End
    """No try is left."""
    late: End = _LATE
    """Its chain goes on (`fallback_after`) before a wait that was stated is over, or has by now."""
    expired: End = _EXPIRED
    """It expires before the wait is over."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows in one case."""

    most: int | None
    """So many further tries, each after one of the lane's waits; None: as many as the lane has waits."""
    ends: Ends
    elsewhere: Elsewhere = Elsewhere.NEVER
    counts: bool = True
    """It is a failed try, and the next wait is the next of the lane's. False: it uses up none, and the step is tried until
    its time is over. Its place among the waits is how many answers of this class came in a row, and the last one repeats;
    towards the end of life a wait is at most half of what is left (and not below the first)."""
    least: timedelta = timedelta(0)
    longest: timedelta = timedelta.max
    only_later: bool = False
    """Jitter shortens no wait."""
    stated: bool = True
    """A longer wait that the provider states (`Retry-After`) is kept, whatever `longest` says: spread to later only."""
    falls_back: bool = True
    """The next place of a chain is opened at the end, and none waits beyond the time at which its chain goes on."""
    suppresses: bool = False
    """The address goes on the suppression list."""

    def waits(self, lane: Lane) -> tuple[timedelta, ...]:
        """Before jitter; none where it is not tried again."""
        return tuple(min(max(wait, self.least), self.longest) for wait in WAITS[lane][: self.most])


def _seconds(*values: float) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=v) for v in values)


ALL = None
"""As many tries as the lane has waits."""
_EXHAUSTED = Ends(End(Status.FAILED, Reason.RETRIES_EXHAUSTED))
_ADDRESS = Ends(End(Status.FAILED, Reason.RECIPIENT_REFUSED))
_CONTENT = Ends(End(Status.FAILED, Reason.CONTENT_REFUSED))
_ENDPOINT = Ends(End(Status.FAILED, Reason.ENDPOINT_REFUSED))
_FULL = Ends(End(Status.FAILED, Reason.MAILBOX_FULL))
_TO_MEND = End(Status.FAILED, Reason.ACCOUNT_MISCONFIGURED)
_MISCONFIGURED = Ends(_TO_MEND, late=_TO_MEND)
_LOST = End(Status.UNKNOWN, Reason.ANSWER_LOST)
_ANSWER_LOST = Ends(_LOST, late=_LOST, expired=_LOST)

WAITS: dict[Lane, tuple[timedelta, ...]] = {
    Lane.HIGH: _seconds(1, 2, 5, 10, 20, 30, 60, 60),
    Lane.MEDIUM: _seconds(2, 10, 30, 120, 300, 900, 1800, 3600, 3600, 7200),
    Lane.LOW: _seconds(10, 60, 300, 900, 1800, 3600, 7200, 14400),
}
"""After the first, second, ... failed try. Each is bounded by the end of the message's life."""

RULES: dict[Case, Rule] = {
    Case.RETRY: Rule(ALL, _EXHAUSTED, Elsewhere.AT_ONCE),
    # it says nothing of the account, and another one would be greylisted as well
    Case.RETRY_ONE: Rule(ALL, _EXHAUSTED),
    # no failure: a busy hour would use up every try. Who is told so all the time asks 288 times a day in the end
    Case.RATE: Rule(ALL, _EXHAUSTED, Elsewhere.AT_ONCE, counts=False, longest=timedelta(minutes=5), only_later=True),
    Case.TOKEN: Rule(ALL, _EXHAUSTED, Elsewhere.AT_ONCE),
    # an operator has to mend it: not within a second
    Case.CONFIG: Rule(ALL, _MISCONFIGURED, Elsewhere.AT_ONCE, least=timedelta(seconds=60)),
    Case.RECIPIENT: Rule(0, _ADDRESS, suppresses=True),
    Case.PERMANENT: Rule(0, _CONTENT),
    Case.ENDPOINT: Rule(0, _ENDPOINT),
    Case.MAILBOX_FULL: Rule(0, _FULL),
    # it may be there: the next channel may show it twice as well, so the chain goes on only where `resend` was asked for
    Case.LOST_HOLD: Rule(0, _ANSWER_LOST, falls_back=False),
    # each may show once more
    Case.LOST_RESEND: Rule(2, _ANSWER_LOST, Elsewhere.AFTER_WAIT, stated=False),
    # over the account that knows it
    Case.KNOWN_HOLD: Rule(ALL, _ANSWER_LOST, stated=False, falls_back=False),
    Case.KNOWN_RESEND: Rule(ALL, _ANSWER_LOST, stated=False),
}

FOR_GOOD = frozenset({ResultClass.RECIPIENT, ResultClass.PERMANENT})
"""Reported by a receipt, these end a step as at once; after any other it goes over another account, if there is one."""
REPORTED_AS: dict[ResultClass, Reason] = {
    ResultClass.RECIPIENT: Reason.RECIPIENT_REFUSED,
    ResultClass.PERMANENT: Reason.CONTENT_REFUSED,
    ResultClass.CONFIG: Reason.ACCOUNT_MISCONFIGURED,
}
"""What a receipt's class ends a step with; after the others it is `undelivered`."""
