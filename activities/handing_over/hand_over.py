"""The hand-over of one cohort: one loop for each provider account, as wide as the account's free slots."""

from __future__ import annotations

from collections.abc import Callable

from activities.accounts.account import Accounts
from activities.handing_over.account_loop import AccountLoop, CohortProgress, LoopParts
from activities.handing_over.claiming import Claimer
from activities.handing_over.contents import Contents
from activities.handing_over.decisions import Decider
from activities.handing_over.holding import Holding
from activities.handing_over.losses import Losses, record_lost
from activities.handing_over.rerouting import Rerouting
from activities.handing_over.sending import Sending
from activities.pace import Pacing
from activities.recording.outcomes import Outcomes
from activities.recording.patience import RETRY_MOST_S
from domain.cohorts import CohortEpoch
from domain.permits import PermitRank
from infra.postgres.engine.claims import ClaimRepository

MOST_LOST = 500


class HandOver:
    """Hands over one cohort's due rows. Made anew for each activity; accounts and slots are the process's."""

    def __init__(
        self,
        claims: ClaimRepository,
        outcomes: Outcomes,
        accounts: Accounts,
        contents: Contents,
        *,
        cohort: CohortEpoch,
        stopping: Callable[[], bool],
        losses: Losses,
        lost_to: Outcomes,
        pacing: Pacing,
        progress: CohortProgress,
        rank: PermitRank,
    ) -> None:
        """`lost_to`: where lost ones are recorded."""
        self._cohort = cohort
        self._losses = losses
        self._lost_to = lost_to
        self._lost = 0
        claimer = Claimer(claims, cohort=cohort, outages=losses.outages)
        self._decider = Decider(accounts, cohort=cohort)
        self._holding = Holding(claims, outcomes, claimer=claimer, decider=self._decider, losses=losses)
        self._sending = Sending(contents, holding=self._holding, decider=self._decider, outages=losses.outages)
        rerouting = Rerouting(claims.queue, accounts, cohort=cohort, due_again=progress.due_again, uncalled=self._uncalled)
        self._parts = LoopParts(
            accounts=accounts, claimer=claimer, decider=self._decider, holding=self._holding, rerouting=rerouting,
            sending=self._sending, pacing=pacing, progress=progress, rank=rank, stopping=stopping,
        )  # fmt: skip
        self._loops: dict[str, AccountLoop] = {}

    @property
    def handed_over(self) -> int:
        return self._holding.writer.written + self._lost

    async def account(self, name: str) -> bool:
        """Claim and send over one account until nothing is due; returns with calls still in flight. False: something may
        still be due (`AccountLoop.run`)."""
        return await self._loop(name).run()

    async def settle(self) -> None:
        """Wait for what is in flight; afterwards everything that happened is recorded and nothing is in our hands."""
        while not await self._sending.wait_all(within_s=RETRY_MOST_S):
            await self._holding.return_meanwhile()
        await self._holding.settle(at_the_end=True)

    async def close(self) -> None:
        """Settle, and stop the writer."""
        try:
            await self.settle()
        finally:
            await self._holding.writer.close()

    async def recover(self) -> None:
        """Record as unknown what an earlier attempt handed over without bringing home an outcome; nothing that another
        account's turn, here or elsewhere, may still bring home."""
        lost = await self._losses.of(self._cohort.id, limit=MOST_LOST)
        self._lost += await record_lost(self._lost_to, list(self._decider.all_lost(lost)), losses=self._losses)

    def _loop(self, name: str) -> AccountLoop:
        if name not in self._loops:
            self._loops[name] = AccountLoop(name, self._parts)
        return self._loops[name]

    def _uncalled(self, name: str) -> None:
        self._loop(name).uncalled = True
