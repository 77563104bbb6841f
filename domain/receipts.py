"""What a receipt changes: evidence about one message, about one step, and what becomes of a step that is open.

A step may have several messages: each attempt that a provider took is one. A message may be known by two names, the
provider's id of it and our own reference, and be reported on under both. Receipts come in any order, late, early and
again; both orders below are maxima, so that none of it matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from domain.results import ResultClass
from domain.retries import REPORTED_AS
from domain.states import Reason, Status, merge, rank
from domain.work_row import Fate

WINDOW = timedelta(days=3)
"""How long after it was taken a receipt may come, where an adapter says nothing else: carriers report for that long."""
KEPT_LONGER = timedelta(days=4)
"""After its window a message is still known for this long: what comes then corrects what has ended."""
EARLY_FOR = timedelta(days=1)
"""A receipt that matches nothing is kept this long: our own record is never later than minutes."""

_OF_MESSAGE = (Status.SENT, Status.FAILED, Status.DELIVERED, Status.READ)
"""Of one message the later of these is true: taken, then known to have failed; and some report a failure first and that it
arrived after all."""
_OF_STEP = (Status.FAILED, Status.SENT, Status.DELIVERED, Status.READ)
"""Of several messages the later of these counts: while one of them is out there, the step has not failed."""
REPORTED = frozenset(_OF_MESSAGE)


def better(known: Status | None, news: Status) -> Status:
    """What is known of one message after `news`."""
    return news if known is None or _OF_MESSAGE.index(news) > _OF_MESSAGE.index(known) else known


def stands(messages: Iterable[Status | None]) -> Status | None:
    """What is known of a step by its messages; None: nothing."""
    return max((one for one in messages if one is not None), key=_OF_STEP.index, default=None)


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a message under one of its names."""

    account: str
    attempt: int
    """0: the name tells no attempt, and no record of ours has said which."""
    ours: bool
    """The name is our own reference."""
    status: Status | None


def messages_of(reports: Sequence[Report]) -> list[int]:
    """Which message of a step each of these is about, as equal numbers.

    An account's attempt is one message, whatever it is called. Our reference without an attempt is about the account's
    latest. An id of the provider's whose attempt is not known is about the latest too, where that is known by our
    reference alone; beside another id of the provider's it is another message.
    """
    names: dict[tuple[str, int], list[Report]] = {}
    for report in reports:
        names.setdefault((report.account, report.attempt), []).append(report)
    latest: dict[str, int] = {}
    for account, attempt in names:
        latest[account] = max(attempt, latest.get(account, 0))
    numbers: dict[tuple[str, int, int], int] = {}
    found = []
    for place, report in enumerate(reports):
        attempt = report.attempt or latest[report.account]
        alone = report.attempt == 0 and not report.ours and not all(r.ours for r in names[report.account, attempt])
        key = (report.account, attempt, place if alone else -1)
        found.append(numbers.setdefault(key, len(numbers)))
    return found


@dataclass(frozen=True, slots=True)
class ReportedStep:
    """What the consequence depends on."""

    recorded: Status
    """The delivery's state."""
    open: bool = False
    """A `work` row is there, and nobody has it in his hands."""
    handed_over: bool = False
    """A `work` row is there, and an attempt is under way."""
    awaiting: bool = False
    """The row, in hand or not, waits for a receipt: nothing is handed over by it."""
    wants: Status | None = None
    """DELIVERED or READ: what a chain waits for; None: there is no chain that waits."""
    resumable: bool = False
    """It has ended with places of its chain left, and nothing stands against going on."""
    lost: bool = False
    """An attempt of it may have arrived that no receipt has told of."""

    def met_by(self, status: Status) -> bool:
        """Nothing need follow any more."""
        return rank(status) >= rank(self.wants or Status.DELIVERED)


@dataclass(frozen=True, slots=True)
class Consequence:
    status: Status
    """The delivery's state from now on."""
    fate: Fate = Fate.KEEP
    """Of its open row. WAIT and LOOK also of one that somebody has in hand to look at it."""


def consequence(step: ReportedStep, evidence: Status) -> Consequence:
    """What `evidence`, as `stands` gives it, makes of a step. The same again changes nothing."""
    match evidence:
        case Status.DELIVERED | Status.READ:
            fate = Fate.END if step.met_by(evidence) else Fate.WAIT
            moves = step.open or (step.awaiting and fate is Fate.WAIT)
            return Consequence(merge(step.recorded, evidence), fate if moves else Fate.KEEP)
        case Status.SENT:
            return _taken(step)
        case _:
            return _failed(step)


def _taken(step: ReportedStep) -> Consequence:
    """It was taken after all: a resend that has not begun is not sent."""
    if step.recorded is Status.SENT or rank(step.recorded) > rank(Status.SENT) or step.awaiting:
        return Consequence(step.recorded)
    fate = Fate.END if step.wants is None else Fate.WAIT
    return Consequence(Status.SENT, fate if step.open else Fate.KEEP)


def _failed(step: ReportedStep) -> Consequence:
    if step.recorded not in {Status.SENT, Status.UNKNOWN, Status.RETRYING}:
        return Consequence(step.recorded)
    if not step.open and not step.handed_over:
        ended = Status.UNKNOWN if step.lost else Status.FAILED
        return Consequence(Status.RETRYING, Fate.RESUME) if step.resumable else Consequence(ended)
    return Consequence(Status.RETRYING, Fate.LOOK if step.awaiting else Fate.KEEP)


def why_failed(result: ResultClass) -> Reason:
    """The reason of a delivery that its receipt says has failed."""
    return REPORTED_AS.get(result, Reason.UNDELIVERED)
