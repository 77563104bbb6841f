"""What arrived in part: which of the channels that failed may be sent again, and why the others may not.

Only what failed goes again, as the same steps of the same notification, so that what arrived cannot. A channel that is
`unknown` may have arrived: it goes again only where that state is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from domain.states import MISSED, SUCCESS, Reason, Status

AS_A_RULE = MISSED - {Status.UNKNOWN}
"""How a channel has ended that goes again without its state being named."""


class Refusal(StrEnum):
    """Why nothing of a notification goes again; codes of the API."""

    STILL_OPEN = "still_open"
    ARRIVED = "arrived"
    """Over each channel, or over each that can be tried."""
    NOT_PARTIAL = "not_partial"
    """It arrived over no channel."""
    CANCELLED = "cancelled"
    RECALLED = "recalled"
    """Somebody wanted it back."""
    ALREADY_RETRIED = "already_retried"
    """A new notification was made from it, which goes over all of its channels."""
    OTP_MESSAGE = "otp_message"
    IS_A_TEST = "is_a_test"
    COLLECTED = "collected"
    """Another one's message carries it, and is tried again for all."""
    CONTENT_ERASED = "content_erased"
    RECIPIENT_GONE = "recipient_gone"
    OTHER_CHANNEL = "other_channel"
    """What failed is another channel, or ended in another way than was asked for."""
    MAY_HAVE_ARRIVED = "may_have_arrived"
    """What failed is unknown, and nobody has asked for such."""
    NO_ADDRESS = Reason.NO_ADDRESS.value
    ADDRESS_SUPPRESSED = Reason.ADDRESS_SUPPRESSED.value


@dataclass(frozen=True, slots=True)
class MissedStep:
    """A channel that failed beside one that arrived."""

    n: int
    channel: str
    status: Status
    reason: str | None
    address: str | None
    """Where it would go now; None: nowhere."""
    suppressed: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which channels are asked for; None asks for any."""

    states: frozenset[Status] = AS_A_RULE
    channel: str | None = None
    reason: str | None = None

    def fits(self, step: MissedStep) -> bool:
        return step.status in self.states and self._fits_but_for_its_state(step)

    def spares(self, step: MissedStep) -> bool:
        """It would fit, were it not that it may have arrived."""
        return step.status is Status.UNKNOWN and step.status not in self.states and self._fits_but_for_its_state(step)

    def _fits_but_for_its_state(self, step: MissedStep) -> bool:
        return self.channel in (None, step.channel) and self.reason in (None, step.reason)


@dataclass(frozen=True, slots=True)
class Partial:
    """A notification as its new try finds it."""

    status: Status
    final: bool
    partial: bool
    steps: Sequence[MissedStep]
    stands_against: Refusal | None = None
    """What is known of it that no channel can change."""


def steps_again(found: Partial, wanted: Wanted) -> Sequence[MissedStep] | Refusal:
    """The steps that go again, at least one; or why none does."""
    if not found.partial:
        return _whole(found)
    if found.stands_against is not None:
        return found.stands_against
    asked = [step for step in found.steps if wanted.fits(step)]
    if not asked:
        spared = any(wanted.spares(step) for step in found.steps)
        return Refusal.MAY_HAVE_ARRIVED if spared else Refusal.OTHER_CHANNEL
    can = [step for step in asked if step.address is not None and not step.suppressed]
    if can:
        return can
    return Refusal.NO_ADDRESS if asked[0].address is None else Refusal.ADDRESS_SUPPRESSED


def _whole(found: Partial) -> Refusal:
    if found.status in SUCCESS:
        return Refusal.ARRIVED
    return Refusal.NOT_PARTIAL if found.final else Refusal.STILL_OPEN
