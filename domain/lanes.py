"""Lanes: the three ways through the service, and every number that differs between them but the waits of
retries (`domain.retries`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum


class Lane(IntEnum):
    """Order is urgency. A lane's name in lower case is the API's `priority` and the name of its task queue."""

    HIGH = 0
    """OTP, security, alerts."""
    MEDIUM = 1
    """Transactional messages."""
    LOW = 2
    """Bulk and marketing."""

    @property
    def label(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> Lane:
        return cls[label.upper()]


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """How notifications of a lane are grouped, held and given up."""

    expires_in: timedelta
    """Life of a notification that names none itself."""
    cohort_size: int
    """The most notifications that a cohort is made of, and that are planned in one step."""
    cohorts_open: int
    """Started cohorts at a time; the rest waits in PostgreSQL. Cohorts that merely hold do not count."""
    cohorts_of_tenant: int
    """How many of them one tenant may have for itself: the rest of the lane is kept for others, however much that tenant
    sends."""
    cohorts_behind: int
    """Those of one tenant that may wait for accounts, with messages that were never tried: however much more the tenant has
    for an account that is slow or down waits in PostgreSQL, and the lane is the others'."""
    cohorts_starting: int
    """How many cohorts may be on their way through Temporal at a time: started, and their workflow has not begun to work.
    What becomes due meanwhile forms larger ones; a cohort that is sending to slow receivers holds up no other."""
    hold_horizon: timedelta
    """How far ahead a workflow waits in Temporal; what is due later goes back to `work`."""
    admits_at_once: int
    """The most rows that a shared cohort takes on at a time. What finds more leaves them to others."""
    lingers: timedelta
    """How long a shared cohort looks for more, when nothing is due, before it ends: what comes meanwhile does not go
    through Temporal, and is at its provider in half the time."""
    mixes_up_to: int | None
    """Tenants with so few due notifications share a cohort, in turn, which takes on what becomes due meanwhile; one with
    more has cohorts of its own. None: all share."""
    admits_beside_others: bool
    """A cohort goes on taking on when so much is due that others help. False: it leaves the rest to them."""
    tried_again_first: bool
    """Retries go first, as cohorts of few do, also in large cohorts."""
    resend_unknown: bool
    """What `on_unknown` means where the notification does not say."""

    @property
    def shared_by_all(self) -> bool:
        """Every cohort of the lane is of all tenants."""
        return self.mixes_up_to is None


AGAIN_KEY, FEW_KEY, MANY_KEY, GUEST_KEY = 1, 2, 3, 4
"""Temporal's priority within a lane's task queue, 1 before 5. Guests are the medium lane's few in the high lane's queue."""
FEW = 20
"""A cohort of at most so many is somebody's own messages and no page of a bulk send; it takes moments."""


def priority_key(*, size: int, epoch: int, guest: bool = False) -> int:
    """Which cohort of a queue goes first, where workers are the bottleneck: what was lost and has waited already, then few
    messages, then many, then another lane's. The bounds of cohorts keep the small ones from starving the large."""
    if guest:
        return GUEST_KEY
    if epoch > 1:
        return AGAIN_KEY
    return FEW_KEY if size <= FEW else MANY_KEY


SHORT = 64
"""A cohort that tenants share and that is no larger is driven by the workers of the high lane, also in the medium lane:
they have no bulk, whose plans and claims of hundreds of rows would stand in its way."""


def driven_by(lane: Lane, *, shared: bool, size: int) -> Lane:
    """The lane whose workers drive a cohort. Size 0: it is not known."""
    return Lane.HIGH if lane is Lane.MEDIUM and shared and size <= SHORT else lane


POLICIES: dict[Lane, LanePolicy] = {
    Lane.HIGH: LanePolicy(
        expires_in=timedelta(minutes=5),
        cohort_size=200,
        cohorts_open=32,
        cohorts_of_tenant=32,
        cohorts_behind=32,
        cohorts_starting=2,
        hold_horizon=timedelta(minutes=5),
        admits_at_once=200,
        lingers=timedelta(milliseconds=500),
        mixes_up_to=None,
        admits_beside_others=True,
        tried_again_first=True,
        resend_unknown=True,
    ),
    Lane.MEDIUM: LanePolicy(
        expires_in=timedelta(hours=24),
        cohort_size=500,
        cohorts_open=8,
        cohorts_of_tenant=5,
        cohorts_behind=10,
        cohorts_starting=8,
        hold_horizon=timedelta(minutes=1),
        admits_at_once=SHORT,
        lingers=timedelta(milliseconds=40),
        mixes_up_to=FEW,
        admits_beside_others=False,
        tried_again_first=False,
        resend_unknown=False,
    ),
    Lane.LOW: LanePolicy(
        expires_in=timedelta(hours=72),
        cohort_size=500,
        cohorts_open=4,
        cohorts_of_tenant=3,
        cohorts_behind=10,
        cohorts_starting=4,
        hold_horizon=timedelta(minutes=1),
        admits_at_once=SHORT,
        lingers=timedelta(milliseconds=40),
        mixes_up_to=FEW,
        admits_beside_others=False,
        tried_again_first=False,
        resend_unknown=False,
    ),
}

SLOT_WITHIN = timedelta(seconds=1)
"""What finds no free slot of its account within this time is put off, like what finds no permit: it keeps no activity and
no place of its lane from others."""
PERMIT_WITHIN = timedelta(seconds=1)
"""Bulk over an account with a rate stays so long for one permit after the other, which it would otherwise come too late
for. Then it is put off like what finds no slot."""
WAITS_AFTER = timedelta(seconds=1)
"""A cohort that has nothing more to claim and waits for answers longer than this takes no place of its lane either."""
BEHIND_AFTER = timedelta(seconds=2)
"""A shared cohort takes on for as long as this at least, even where slots are scarce: what it has taken on waits for slots
no longer than `SLOT_WITHIN`, and a cohort for every few messages would cost more than it helps."""
SHARED_KEEPS = timedelta(seconds=2)
"""What is put off for longer leaves a cohort that tenants share, and is grouped again in its time."""
LOOKS_AGAIN_WITHIN = timedelta(seconds=55)
"""A tenant's own cohort looks again at least this often at what it put off: below the lower lanes' horizon, so that it
keeps it."""
OVERLOOKED_AFTER = timedelta(minutes=1)
"""Longer than any look apart: what was due so long ago has waited for us, in an outage of ours, and not for its account."""
CLAIM_WINDOW = timedelta(seconds=5)
"""From claim to first byte: what has not started by then goes back unsent (`start_by`)."""
FLUSH_MARGIN = timedelta(seconds=10)
"""Added to the time-out of a call before its outcome counts as unknown (`unknown_at`)."""
LEASE = timedelta(seconds=60)
"""How long a cohort may go without a sign of life before the sweep asks Temporal about it."""
ADMISSION_LEASE = timedelta(milliseconds=250)
"""How long nobody else groups what a cohort has said that it takes on: a killed worker holds it up no longer."""
ADMIT_EVERY = timedelta(milliseconds=20)
"""A cohort takes on more when its last group has ended, or, where receivers are slow, after this long."""
LOOK_EVERY = timedelta(milliseconds=10)
"""No sooner than this after it has looked the last time, whether anything was due then or not: a group costs the same
dozen statements for one message as for many. Sooner than a new cohort would start, and for a hundredth of what that costs.
Where more is due than it took, at once."""
STARTING_FOR = timedelta(seconds=2)
"""A cohort that has not begun after this long counts as starting no more: its worker was killed, or there is none."""
DRIVE_WINDOW = timedelta(seconds=10)
"""No new claim after this long in one activity: it finishes what is in flight and returns."""
FOLLOW_UP_WINDOW = timedelta(seconds=20)
"""What becomes due again meanwhile is still handed over until this long after the activity's begin: whoever fails over does
not wait for what is in flight. Longer than `DRIVE_WINDOW` by what a hanging call takes."""
MOST_INTERNAL_FAILURES = 3
"""A row that fails inside this service this often is quarantined."""
