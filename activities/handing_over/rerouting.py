"""What is due over an account that cannot take it now: it is put off, or goes over another account of the same tenant."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from activities.accounts.account import Account, Accounts
from activities.recording.follow_ups import DueAgain
from domain.cohorts import CohortEpoch
from domain.permits import Granted, PermitRank
from domain.shares import Blocked
from domain.timeline import LeftFor
from infra.postgres.engine.account_queue import AccountQueue
from infra.postgres.errors import AWAY
from infra.telemetry.engine_metrics import PARKED

MOST_BOOKED = 10_000
"""Rows of one cohort that are counted for their turns; it holds fewer."""
NOTHING = timedelta(0)


class Rerouting:
    """Of one cohort. `uncalled` is told of accounts over which something is left due that needs no call."""

    def __init__(
        self,
        queue: AccountQueue,
        accounts: Accounts,
        *,
        cohort: CohortEpoch,
        due_again: DueAgain,
        uncalled: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._accounts = accounts
        self._cohort = cohort
        self._due_again = due_again
        self._uncalled = uncalled

    async def go_round(self, account: Account) -> None:
        """Its circuit is open, or it has said "not so often": over another account of the same tenant, or later, when the
        first of them may be called again. What only this one may have waits for it."""
        others, later, staying = dict[str, list[str]](), dict[float, list[str]](), list[str]()
        now_s = self._accounts.clock()
        waiting = await self._queue.tenants(self._cohort.id, account=account.name)
        for one in waiting:
            if one.stays:
                staying.append(one.tenant)
            if not one.may_leave:
                continue
            other = self._accounts.choose(one.tenant, account.channel, tried=(account.name,))
            if other is None:
                wait_s = self._accounts.soonest_s(account, tenant=one.tenant, now_s=now_s)
                later.setdefault(wait_s, []).append(one.tenant)
            else:
                others.setdefault(other.name, []).append(one.tenant)
        if staying:
            wait = timedelta(seconds=account.health.wait_s(now_s))
            await self.park(account, wait=wait, tenants=staying, taken_by_nobody=True, staying=True)
        for wait_s, those in later.items():
            await self.park(account, wait=timedelta(seconds=wait_s), tenants=those, taken_by_nobody=True)
        for name, those in others.items():
            await self._move(account, name, tenants=those)
        if any(one.uncalled for one in waiting):
            self._uncalled(account.name)

    async def without_probe(self, account: Account) -> None:
        """Its circuit is half open, and nothing that is due here may be the probe: what has failed before leaves it to
        others for a moment, and the rest needs no call."""
        wait_s = account.health.unfailed_first_s(self._accounts.clock())
        if wait_s > 0:
            await self.park(account, wait=timedelta(seconds=wait_s))
        else:
            self._uncalled(account.name)

    async def permitted(self, account: Account, most: int, *, rank: PermitRank, stays_s: float, again: bool) -> Granted:
        """How many of `most` may be claimed, and in what time. Without a permit the rows are parked, each to its turn,
        and no slot waits, unless it is to ask again in a moment."""
        if account.permits is None:
            return Granted(most)
        due, waiting = await self._queue.due(self._cohort.id, account=account.name, limit=most)
        if not due:
            return Granted(0)
        granted = await account.permits.take(due, waiting=waiting, rank=rank, stays_s=stays_s, again=again)
        if granted.count == 0 and not granted.stays:
            await self.park(account, wait=await self._turn(account, granted, rank=rank), spacing=granted.spacing)
        return granted

    async def unused(self, account: Account, count: int, *, since_s: float) -> None:
        """So many of what was permitted at this time.monotonic() did not go: it was blocked, or somebody else's, or at its
        end."""
        if account.permits is not None and count > 0:
            with contextlib.suppress(*AWAY):  # lost, as they would be if this process ended here
                await account.permits.give_back(count, held_s=time.monotonic() - since_s)

    async def _turn(self, account: Account, granted: Granted, *, rank: PermitRank) -> timedelta:
        """Who goes before bulk has the next permit, and stands behind nobody's turns."""
        if rank is not PermitRank.BULK or account.permits is None:
            return granted.wait
        waiting = await self._queue.waiting(self._cohort.id, account=account.name, limit=MOST_BOOKED)
        return await account.permits.turns(waiting, granted=granted)

    async def park(
        self,
        account: Account,
        *,
        wait: timedelta,
        spacing: timedelta = NOTHING,
        tenants: Sequence[str] | None = None,
        taken_by_nobody: bool = False,
        staying: bool = False,
    ) -> None:
        PARKED.labels(account.channel).inc()
        if await self._queue.park(
            self._cohort, account=account.name, wait=wait, spacing=spacing, tenants=tenants,
            taken_by_nobody=taken_by_nobody, staying=staying,
        ):  # fmt: skip
            self._uncalled(account.name)
        self._due_again(account.name, time.monotonic() + wait.total_seconds())

    async def park_blocked(self, account: Account, blocked: Sequence[Blocked]) -> None:
        """Its receivers have as many calls as they may have, or have said "not so often"."""
        PARKED.labels(account.channel).inc()
        if await self._queue.park_blocked(self._cohort, account=account.name, blocked=blocked):
            self._uncalled(account.name)
        self._due_again(account.name, time.monotonic() + min(one.wait_s for one in blocked))

    async def _move(self, account: Account, to: str, *, tenants: Sequence[str]) -> None:
        throttled = account.health.throttle.wait_s(self._accounts.clock()) > 0
        why = LeftFor.THROTTLED if throttled else LeftFor.CIRCUIT_OPEN
        detail = {"channel": account.channel, "account": to, "after": account.name, "reason": why}
        await self._queue.move(self._cohort, account=account.name, to=to, detail=detail, tenants=tenants)
        self._due_again(to, time.monotonic())
