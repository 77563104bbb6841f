"""Which hand-overs are lost: claimed, and nobody will bring home what became of them.

The database's clock alone cannot tell. Set forward by an hour it makes every hand-over under way overdue in one moment, and
what is called lost is `unknown`, or is sent a second time. So whoever calls it lost has seen the claim in somebody's hands
for as long as a hand-over may take, by its own monotonic clock, which nobody sets; and it is overdue by the database's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from activities.accounts import Accounts
from activities.claiming import set_aside, tell_unreadable
from domain.clock import Clock
from domain.lanes import CLAIM_WINDOW, FLUSH_MARGIN
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.clock_steps import HAND_OVER_LIMIT
from infra.postgres.engine.in_hand import InHand
from infra.postgres.errors import AWAY

MOST_SEEN = 5000
TOLD_WITHIN_S = 5.0
"""After an outage, before anything is called lost: more than it takes those who hold outcomes to write them
(`activities.patience.RETRY_MOST_S` and a flush)."""
FORGOTTEN_AFTER_S = 900.0
"""A cohort that nobody has looked at for this long is driven by another process (`workflows.delivery.EXECUTION_LIMIT`)."""


@dataclass(slots=True)
class _Sightings:
    """What one cohort, or the sweep, has seen: a claim -> when for the first time."""

    first_s: dict[InHand, float] = field(default_factory=dict)
    looked_at_s: float = 0.0


class Losses:
    """What this process has seen of claims that are in somebody's hands. A claim that was made anew is another one."""

    def __init__(self, claims: ClaimRepository, accounts: Accounts, *, clock: Clock) -> None:
        self._claims = claims
        self._accounts = accounts
        self._monotonic_s = clock.monotonic_s
        self._seen: dict[UUID | None, _Sightings] = {}
        self._trusted_from_s = -math.inf

    async def of(self, cohort: UUID | None, *, limit: int) -> list[Claim]:
        """At most `limit` lost ones of the cohort; None: of all, where only what is overdue is looked at."""
        before_s = self._monotonic_s()
        in_hand = await self._look(cohort)
        first_s = self._remember(cohort, in_hand)
        if before_s < self._trusted_from_s:
            return []
        lost = [claim for claim in in_hand if before_s >= first_s[claim] + self._takes(claim).total_seconds()]
        return await self._of(cohort, lost[:limit]) if lost else []

    async def _look(self, cohort: UUID | None) -> list[InHand]:
        """While nobody can look nobody can tell: when the database is back, whoever holds an outcome is to say it first."""
        try:
            in_hand = await self._claims.in_hand(cohort, limit=MOST_SEEN)
        except AWAY:
            self._trusted_from_s = math.inf
            raise
        if self._trusted_from_s == math.inf:
            self._trusted_from_s = self._monotonic_s() + TOLD_WITHIN_S
        return in_hand

    async def _of(self, cohort: UUID | None, lost: list[InHand]) -> list[Claim]:
        """What this version cannot read is left to others, and seen anew, so that it stands before nothing else; if its
        time is over, it is ended."""
        found = await self._claims.lost(lost)
        if found.unreadable:
            keys = {(row.notification_id, row.n, row.attempt) for row in found.unreadable}
            first_s, now_s = self._seen[cohort].first_s, self._monotonic_s()
            first_s |= {c: now_s for c in lost if (c.notification_id, c.n, c.attempt) in keys}
            for row in found.unreadable:
                tell_unreadable(row)
            await set_aside(self._claims, found.unreadable, sent=True)
        return list(found.claims)

    def _remember(self, cohort: UUID | None, in_hand: list[InHand]) -> dict[InHand, float]:
        """Seen from now on, and not from before the look: the claim may be younger than the question."""
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
