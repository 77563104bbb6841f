"""The activity layer without Temporal: providers that a test holds in its hand, and the activity itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import asyncpg

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from activities.cohorts.drive import EngineRepositories
from activities.delivery import DeliveryActivities
from activities.handing_over.contents import Contents
from activities.handing_over.hand_over import HandOver
from activities.handing_over.losses import Losses
from activities.pace import UNPACED
from channels.base import Capabilities, Content, Message
from channels.memory import MemoryProvider
from domain.clock import Clock
from domain.lanes import Lane
from domain.permits import PermitRank
from domain.results import SendResult
from infra.clock import SYSTEM_CLOCK
from infra.postgres.engine.admission import AdmissionRepository
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import CohortRepository, CohortRow
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.plans import PlanRepository
from infra.postgres.engine.step_outcome import StepOutcome
from tests.engine.support import Engine, PlainContents
from workflows.delivery import Drive


class HeldProvider(MemoryProvider):
    """A provider whose calls wait until the test lets them go."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inside = 0
        self.most_inside = 0
        self._changed = asyncio.Condition()
        self.waiting: list[str] = []
        """Delivery ids of the calls that wait, oldest first."""
        self._allowed = 0
        self._slow: str | None = None

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        async with self._changed:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            names = [m.delivery_id for m in batch]
            self.waiting += names
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: self._allowed > 0 or self._passes_by(names))
                self._allowed -= not self._passes_by(names)
            finally:
                self.inside -= 1
                self.waiting = [name for name in self.waiting if name not in names]
            answers = await super().send(batch)
            self._changed.notify_all()
            return answers

    async def let_go(self, calls: int = 1_000_000) -> None:
        """Let so many of the calls that wait, or will come, be answered."""
        async with self._changed:
            self._allowed += calls
            self._changed.notify_all()

    async def let_go_all_but(self, slow: str) -> None:
        """Let every call be answered, now and later, but the one with this delivery."""
        async with self._changed:
            self._slow = slow
            self._changed.notify_all()

    def _passes_by(self, names: Sequence[str]) -> bool:
        return self._slow is not None and self._slow not in names

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)


class OddProvider(MemoryProvider):
    """A provider that does what `behaviour` does."""

    def __init__(self, behaviour: Callable[[Sequence[Message]], Coroutine[Any, Any, Any]], **options: Any) -> None:
        super().__init__(**options)
        self._behaviour = behaviour

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, call_timeout_s=0.05)

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        await super().send(batch)
        answer: Sequence[SendResult] = await self._behaviour(batch)
        return answer


class SignallingOutcomes(OutcomeRepository):
    """Tells when a flush has been committed."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.sizes: list[int] = []
        self.flushed = asyncio.Event()

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        await super().flush(outcomes, now_s=now_s)
        self.sizes.append(len(outcomes))
        self.flushed.set()


class BrokenContents(PlainContents):
    """Contents that fail for some claims."""

    def __init__(self, failures: Callable[[Claim], Exception | None]) -> None:
        self._failures = failures

    async def content(self, claim: Claim) -> Content:
        failure = self._failures(claim)
        if failure is not None:
            raise failure
        return await super().content(claim)


def accounts_of(*providers: MemoryProvider, slots: int = 8) -> Accounts:
    return Accounts(Account(f"memory-{p.capabilities.channel}", p, Slots(slots)) for p in providers)


class NoDrive:
    """Nobody drives the cohort: what becomes due again is not followed up."""

    def due_again(self, account: str, at_s: float) -> None:
        return

    def waiting_for_slot(self, account: str) -> AbstractContextManager[None]:
        return nullcontext()


def hand_over(
    engine: Engine,
    cohort: CohortRow,
    accounts: Accounts,
    *,
    contents: Contents | None = None,
    outcomes: OutcomeRepository | None = None,
    claims: ClaimRepository | None = None,
    stopping: Callable[[], bool] = lambda: False,
    losses: Losses | None = None,
    rank: PermitRank = PermitRank.BULK,
) -> HandOver:
    return HandOver(
        claims or engine.claims,
        outcomes or engine.outcomes,
        accounts,
        contents or PlainContents(),
        cohort=cohort,
        stopping=stopping,
        losses=losses or Losses(engine.claims, accounts, clock=SYSTEM_CLOCK),
        lost_to=outcomes or engine.outcomes,
        pacing=UNPACED,
        progress=NoDrive(),
        rank=rank,
    )


async def handed_over(engine: Engine, cohort: CohortRow, accounts: Accounts, **options: Any) -> None:
    """One pass over the e-mail channel, to its end."""
    passing = hand_over(engine, cohort, accounts, **options)
    await passing.account("memory-email")
    await passing.close()


def activities(
    engine: Engine,
    *,
    accounts: Accounts | None = None,
    pool: asyncpg.Pool | None = None,
    contents: Contents | None = None,
    stopping: Callable[[], bool] = lambda: False,
    poke: Callable[[Lane], None] = lambda _: None,
    clock: Clock = SYSTEM_CLOCK,
    losses: Losses | None = None,
) -> DeliveryActivities:
    """The activity over `pool`, which may be a gated or failing one."""
    over = pool or engine.pool
    repositories = EngineRepositories(
        CohortRepository(over),
        AdmissionRepository(over),
        PlanRepository(over),
        ClaimRepository(over),
        OutcomeRepository(over),
    )
    return DeliveryActivities(
        repositories,
        accounts=accounts or engine.accounts,
        contents=contents or PlainContents(),
        stopping=stopping,
        poke=poke,
        clock=clock,
        losses=losses,
    )


def drive(cohort: CohortRow, account: str | None = None) -> Drive:
    return Drive(str(cohort.id), cohort.epoch, int(cohort.lane), account)
