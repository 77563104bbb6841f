"""Which hand-overs are lost: claimed, and nobody will bring home what became of them.

The database's clock alone cannot tell. Set forward by an hour it makes every hand-over under way overdue in one moment, and
what is called lost is `unknown`, or is sent a second time. So whoever calls it lost has seen the claim in somebody's hands
for as long as a hand-over may take, by its own monotonic clock, which nobody sets; and it is overdue by the database's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from uuid import UUID
from weakref import WeakSet

import structlog

from activities.accounts.account import Accounts
from activities.handing_over.claiming import set_aside, tell_unreadable
from activities.recording.outcomes import Outcomes
from activities.recording.patience import PASSING, RETRY_MOST_S, Outages
from activities.recording.poison import Part, without_poison
from domain.clock import Clock
from domain.lanes import CLAIM_WINDOW, FLUSH_MARGIN
from infra.postgres.database import COMMAND_TIMEOUT_S
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT
from infra.postgres.engine.in_hand import InHand
from infra.postgres.engine.locks import Held
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.errors import AWAY, POISON, is_away

log = structlog.get_logger()

MOST_SEEN = 5000
TOLD_WITHIN_S = COMMAND_TIMEOUT_S + RETRY_MOST_S + 4.5
"""Seconds after an outage before anything is called lost: more than it takes those who hold outcomes to write them. Where a
connection hangs, they learn of it when its statement's time is over; then comes the next try, and a flush."""
WRITTEN_WITHIN_S = 5.0
"""Seconds for which the end of lost claims is tried to be written: later, the look that found them would be too old."""
FORGOTTEN_AFTER_S = 900.0
"""A cohort that nobody has looked at for this long is driven by another process (`workflows.delivery.EXECUTION_LIMIT`)."""


@dataclass(slots=True)
class _Sightings:
    """Claims that one cohort, or the sweep, has seen in hand -> when for the first time, by the monotonic clock."""

    first_s: dict[InHand, float] = field(default_factory=dict)
    looked_at_s: float = 0.0


class Holder(Protocol):
    """Holds claims whose end is known, and not written yet."""

    def held(self) -> Iterable[tuple[UUID, int, int]]:
        """(notification, n, attempt)"""
        ...


class Losses:
    """What this process has seen of claims that are in somebody's hands. A claim that was made anew is another one. One a
    process: an outage that any part of it has met is one for all."""

    def __init__(
        self, claims: ClaimRepository, accounts: Accounts, *, clock: Clock, outages: Outages | None = None
    ) -> None:
        self.outages = outages or Outages()
        self.holders: WeakSet[Holder] = WeakSet()
        self._claims = claims
        self._accounts = accounts
        self._monotonic_s = clock.monotonic_s
        self._seen: dict[UUID | None, _Sightings] = {}
        self._outages_seen = self.outages.count
        self._trusted_from_s = float("-inf")

    async def of(self, cohort: UUID | None, *, limit: int) -> list[Claim]:
        """At most `limit` lost claims of the cohort; None: of all cohorts, among those overdue by the database's clock."""
        before_s = self._monotonic_s()
        in_hand = await self._look(cohort)
        first_s = self._remember(cohort, in_hand)
        if before_s < self._trusted_from_s:
            return []
        lost = [claim for claim in in_hand if before_s >= first_s[claim] + self._takes(claim).total_seconds()]
        if lost:
            held = {key for holder in self.holders for key in holder.held()}
            lost = [claim for claim in lost if _key(claim) not in held]
        return await self._of(cohort, lost[:limit]) if lost else []

    async def _look(self, cohort: UUID | None) -> list[InHand]:
        """Claims in hand. After an outage none is lost for `TOLD_WITHIN_S`: who holds an outcome is to write it first."""
        try:
            in_hand = await self._claims.in_hand(cohort, limit=MOST_SEEN)
        except AWAY:
            self.outages.met()
            raise
        if self._outages_seen != self.outages.count:
            self._outages_seen = self.outages.count
            self._trusted_from_s = self._monotonic_s() + TOLD_WITHIN_S
        return in_hand

    async def _of(self, cohort: UUID | None, lost: list[InHand]) -> list[Claim]:
        """Rows that this version cannot read are left for a worker that can. Their time starts again, so that they do not
        fill the next look. Expired ones end as unknown."""
        found = await self._claims.lost(lost)
        if found.unreadable:
            keys = {(row.notification_id, row.n, row.attempt) for row in found.unreadable}
            first_s, now_s = self._seen[cohort].first_s, self._monotonic_s()
            first_s |= {c: now_s for c in lost if _key(c) in keys}
            for row in found.unreadable:
                tell_unreadable(row)
            await set_aside(self._claims, found.unreadable, outages=self.outages, sent=True, for_s=WRITTEN_WITHIN_S)
        return list(found.claims)

    def _remember(self, cohort: UUID | None, in_hand: list[InHand]) -> dict[InHand, float]:
        """When each was first seen. A new one: now, not before the look, because it may be younger than the question."""
        now_s = self._monotonic_s()
        known = self._seen.pop(cohort, _Sightings()).first_s
        first_s = {claim: known.get(claim, now_s) for claim in in_hand}
        if first_s:
            self._seen[cohort] = _Sightings(first_s, now_s)
        for other in [c for c, s in self._seen.items() if s.looked_at_s < now_s - FORGOTTEN_AFTER_S]:
            del self._seen[other]
        return first_s

    def _takes(self, claim: InHand) -> timedelta:
        """The most that a hand-over over this account takes, from its claim to its outcome."""
        account = self._accounts.get(claim.account)
        if account is None:
            return HAND_OVER_LIMIT
        return CLAIM_WINDOW + timedelta(seconds=account.provider.capabilities.call_timeout_s) + FLUSH_MARGIN


def _key(claim: InHand) -> tuple[UUID, int, int]:
    return claim.notification_id, claim.n, claim.attempt


async def record_lost(outcomes: Outcomes, assumed: Sequence[StepOutcome], *, losses: Losses) -> int:
    """Write what is assumed of lost ones, once and soon or not at all: kept through an outage, a resend would be due in the
    moment it is written, before those who know what happened have said it. Whoever looks again finds them again. Returns
    how many were written."""
    parts, written, lost = [Part(list(assumed))] if assumed else [], 0, 0
    try:
        async with asyncio.timeout(WRITTEN_WITHIN_S):
            while parts:
                part = parts.pop()
                try:
                    await outcomes.flush(part.rows, now_s=time.monotonic())
                    written += len(part.rows)
                    lost += sum(o.assumed for o in part.rows)
                except Held as held:  # whoever holds it may be the one who knows what came of it
                    free = [o for o in part.rows if o.claim.notification_id not in held.ids]
                    written += len(free)
                    lost += sum(o.assumed for o in free)
                except POISON as error:
                    parts += without_poison(part, error)
    except PASSING as error:
        if is_away(error):
            losses.outages.met()
        log.warning("lost.not_written", count=len(assumed) - written, code=type(error).__name__)
    if lost:
        log.warning("hand_over.lost", count=lost)
    return written
