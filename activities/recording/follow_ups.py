"""Rows that an outcome leaves due again are announced to the drive of their cohort, and wait for no other call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from activities.recording.outcomes import Outcomes
from infra.postgres.engine.locks import Held
from infra.postgres.engine.step_outcome import StepOutcome

DueAgain: TypeAlias = Callable[[str, float], None]
"""Told that a row is due over this account at this time.monotonic()."""


class ToldOutcomes:
    """Records one cohort's outcomes, and announces what they leave due again. Costs no statement: the decisions say it."""

    def __init__(self, outcomes: Outcomes, *, due_again: DueAgain) -> None:
        self._outcomes = outcomes
        self._due_again = due_again

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        """Announces them once they are recorded: before that a claim would find nothing."""
        try:
            await self._outcomes.flush(outcomes, now_s=now_s)
        except Held as held:
            self._tell([o for o in outcomes if o.claim.notification_id not in held.ids])
            raise
        self._tell(outcomes)

    def _tell(self, outcomes: Sequence[StepOutcome]) -> None:
        first: dict[str, float] = {}
        for outcome in outcomes:
            for account, at_s in due_again(outcome):
                first[account] = min(at_s, first.get(account, at_s))
        for account, at_s in first.items():
            self._due_again(account, at_s)


def due_again(outcome: StepOutcome) -> Iterator[tuple[str, float]]:
    """Accounts and the time.monotonic() at which a row may be due over them. The flush may know better, and leave none."""
    claim, decision = outcome.claim, outcome.decision
    if decision.due_at is not None:
        at_s = claim.claimed_s + (decision.due_at - claim.claimed_at).total_seconds()
        yield outcome.moves_to or claim.account, at_s
    if decision.falls_back and claim.chain and outcome.account_of_next is not None:
        yield outcome.account_of_next, claim.claimed_s
    if claim.awaiting:  # a receipt that came meanwhile has it looked at again
        yield claim.account, claim.claimed_s
