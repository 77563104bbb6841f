"""Claims of one hand-over, whatever becomes of the statement: a row that cannot be claimed or read spoils no other, and
what a lost reply would have said is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial

import structlog

from activities.recording.patience import Outages, patiently
from domain.cohorts import CohortEpoch
from domain.shares import Blocked
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import Claimed, ClaimRepository, new_mark
from infra.postgres.engine.setting_aside import Unreadable
from infra.postgres.errors import AWAY, POISON
from infra.telemetry.engine_metrics import UNREADABLE

log = structlog.get_logger()


class Claimer:
    """Made anew for each hand-over."""

    def __init__(self, claims: ClaimRepository, *, cohort: CohortEpoch, outages: Outages) -> None:
        self._claims = claims
        self._outages = outages
        self._cohort = cohort
        self._aside: list[Unreadable] = []
        self._unheard: list[tuple[str, timedelta, timedelta]] = []

    @property
    def unsure(self) -> bool:
        """A claim was not answered, and has not been asked about yet."""
        return bool(self._unheard)

    async def claim(
        self,
        account: str,
        *,
        limit: int,
        call_timeout: timedelta,
        without: Sequence[Blocked] = (),
        uncalled: bool = False,
        probing: int | None = None,
    ) -> list[Claim]:
        """At most `limit` due rows of this account, none of what is blocked; `uncalled`: only what needs no call;
        `probing`: as of `domain.health`. Rows that cannot be read go back with `settle`, not now: nothing stands between a
        claim and its call. Empty while the database is away."""
        mark = new_mark()
        ask = partial(
            self._claims.claim, self._cohort, account=account, limit=limit, call_timeout=call_timeout,
            mark=mark, without=without, uncalled=uncalled, probing=probing,
        )  # fmt: skip
        try:
            claimed = await self._claimed(account, ask)
        except AWAY as error:
            self._outages.met()
            self._unheard.append((account, call_timeout, mark))
            log.warning("claim.unheard", cohort=str(self._cohort.id), account=account, code=type(error).__name__)
            return []
        return self._readable(claimed)

    async def _claimed(self, account: str, ask: Callable[..., Awaitable[Claimed]]) -> Claimed:
        try:
            return await ask()
        except POISON as error:
            log.error("claim.poison", cohort=str(self._cohort.id), account=account, code=type(error).__name__)
            return await ask(singly=True)

    async def settle(self) -> list[Claim]:
        """Set aside rows that cannot be read. Returns the claims whose reply was lost: nobody has begun with them, and the
        caller gives them back."""
        found = list[Claim]()
        for asking in self._unheard:  # each time anew: the statement may have ended after it was asked about
            found += self._readable(await self._asked(*asking))
        rows, self._aside = self._aside, []
        try:
            await set_aside(self._claims, rows, outages=self._outages)
        except BaseException:
            self._aside += rows
            raise
        return found

    async def _asked(self, account: str, call_timeout: timedelta, mark: timedelta) -> Claimed:
        """What the claim took. In an outage as long as outcomes are kept: without an answer they would become unknown,
        though nobody has begun with them."""
        return await patiently(
            lambda: self._claims.unheard(self._cohort.id, account=account, call_timeout=call_timeout, mark=mark),
            outages=self._outages,
        )

    def _readable(self, claimed: Claimed) -> list[Claim]:
        for row in claimed.unreadable:
            tell_unreadable(row)
        self._aside += claimed.unreadable
        return list(claimed.claims)


async def set_aside(
    claims: ClaimRepository,
    rows: Sequence[Unreadable],
    *,
    outages: Outages,
    sent: bool = False,
    for_s: float | None = None,
) -> None:
    """Give these back or end them (`ClaimRepository.set_aside`); one for which even that fails spoils no other. Tries for
    `for_s` (`activities.recording.patience`)."""
    try:
        await patiently(lambda: claims.set_aside(rows, sent=sent), for_s=for_s, outages=outages)
    except POISON as error:
        if len(rows) > 1:
            for row in rows:
                await set_aside(claims, [row], outages=outages, sent=sent, for_s=for_s)
            return
        log.error("claim.stuck", notification_id=str(rows[0].notification_id), n=rows[0].n, code=type(error).__name__)


def tell_unreadable(row: Unreadable) -> None:
    UNREADABLE.inc()
    log.warning("claim.unreadable", notification_id=str(row.notification_id), n=row.n, code=row.code)
