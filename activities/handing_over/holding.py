"""What one hand-over has in its hands: claims without an end yet, ends that are not written yet, claims that go back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from uuid import UUID

from activities.handing_over.claiming import Claimer
from activities.handing_over.decisions import Decider, End
from activities.handing_over.losses import Losses
from activities.recording.outcomes import Outcomes, OutcomeWriter
from activities.recording.patience import patiently
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.locks import Held


class Holding:
    """Every claim that was taken comes to exactly one end (`end`)."""

    def __init__(
        self, claims: ClaimRepository, outcomes: Outcomes, *, claimer: Claimer, decider: Decider, losses: Losses
    ) -> None:
        self._claims = claims
        self._claimer = claimer
        self._decider = decider
        self._outages = losses.outages
        self._without_end = 0
        self._back: list[Returned] = []
        self._going_back: list[list[Returned]] = []
        self.writer = OutcomeWriter(outcomes, in_flight=lambda: self._without_end, outages=losses.outages)
        losses.holders.add(self)

    def took(self, claims: Sequence[Claim]) -> None:
        self._without_end += len(claims)

    def end(self, end: End) -> None:
        """The claim is in our hands no longer."""
        self._without_end -= 1
        if isinstance(end, Returned):
            self._back.append(end)
        else:
            self.writer.put(end)

    def held(self) -> Iterator[tuple[UUID, int, int]]:
        """Claims whose end is known here and may yet be written (`activities.handing_over.losses.Holder`)."""
        if self.writer.closed:
            return
        for outcome in self.writer.held():
            yield *outcome.claim.step, outcome.claim.attempt
        for back in (self._back, *self._going_back):
            for claim in back:
                yield claim.notification_id, claim.n, claim.attempt

    async def return_if_any(self) -> None:
        if self._back:
            await self._return_unsent()

    async def return_meanwhile(self) -> None:
        """While calls are under way: tried once, and what fails again at the end."""
        if self._back:
            with contextlib.suppress(Exception):
                await self._return_known(at_the_end=False, for_s=0.0)

    async def settle(self, *, at_the_end: bool = False) -> None:
        """Until all that has an end is written or given back, but for what another session keeps locked; `at_the_end`:
        what goes back is waited for."""
        await self._return_unsent(at_the_end=at_the_end)
        await self.writer.settle()

    async def _return_unsent(self, *, at_the_end: bool = False) -> None:
        """Tried as long as an outcome is: what is not given back counts as unknown, though not a byte of it left."""
        await self._return_known(at_the_end=at_the_end)
        self._back += [self._decider.returned(claim) for claim in await self._claimer.settle()]
        await self._return_known(at_the_end=at_the_end)

    async def _return_known(self, *, at_the_end: bool, for_s: float | None = None) -> None:
        back, self._back = self._back, []

        async def unit() -> None:
            try:
                await self._claims.give_back(back)
            except Held as held:
                if at_the_end:
                    raise
                self._back += [claim for claim in back if claim.notification_id in held.ids]

        self._going_back.append(back)
        try:
            await patiently(unit, for_s=for_s, outages=self._outages)
        except BaseException:
            self._back += back  # tried once more at the end
            raise
        finally:
            self._going_back.remove(back)
