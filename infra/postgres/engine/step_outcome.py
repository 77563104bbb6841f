"""What became of one attempt, as its worker tells it to the flush."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from domain.attempts import Awaited, Decision
from domain.ids import uuid7
from domain.results import SendResult
from domain.timeline import EventType
from infra.postgres.engine.claimed import Claim


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One entry of the timeline. Its id is made once: what is repeated writes it once."""

    type: EventType
    detail: dict[str, Any]
    id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of one attempt."""

    claim: Claim
    decision: Decision
    result: SendResult | None
    """None where nothing was handed over (expired, suppressed, broken template)."""
    provider: str | None
    events: tuple[TimelineEvent, ...]
    happened_at_s: float
    """time.monotonic() of the moment, so that the database's clock can date it."""
    cohort: UUID | None
    epoch: int | None
    account_of_next: str | None = None
    """The account of the chain's next channel."""
    moves_to: str | None = None
    """The account that the next attempt goes over, where it is another one."""
    tried: tuple[str, ...] = ()
    """Accounts that the next attempt passes by."""
    awaits: Awaited | None = None
    """The receipt that must come, or something follows."""
    window: timedelta | None = None
    """The provider reports later what becomes of it, at most for this long; None: it does not."""
    assumed: bool = False
    """Nobody brought the outcome home, so that it counts as unknown: said only while the claim is still open."""

    @property
    def puts_off(self) -> bool:
        """It was not tried and is due later."""
        return self.result is None and self.decision.due_at is not None
