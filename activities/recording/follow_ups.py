"""What an outcome leaves due again, told to whoever drives its cohort: it waits for no call of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from activities.recording.outcomes import Outcomes
from infra.postgres.engine.locks import Held
from infra.postgres.engine.step_outcome import StepOutcome

DueAgain: TypeAlias = Callable[[str, float], None]
"""Told that a row is due over this account at this time.monotonic()."""


class ToldOutcomes:
    """`Outcomes` below it, of one cohort. Costs no statement: what was decided says what is due again."""

    def __init__(self, outcomes: Outcomes, *, due_again: DueAgain) -> None:
        self._outcomes = outcomes
        self._due_again = due_again

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        """Told once they are recorded: a claim would find nothing before."""
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
    """(account, time.monotonic()) of what the outcome may leave open. The flush may know better, and leave nothing."""
    claim, decision = outcome.claim, outcome.decision
    if decision.due_at is not None:
        at_s = claim.claimed_s + (decision.due_at - claim.claimed_at).total_seconds()
        yield outcome.moves_to or claim.account, at_s
    if decision.falls_back and claim.chain and outcome.account_of_next is not None:
        yield outcome.account_of_next, claim.claimed_s
    if claim.awaiting:  # a receipt that came meanwhile has it looked at again
        yield claim.account, claim.claimed_s
