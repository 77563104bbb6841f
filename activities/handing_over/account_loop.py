"""One account of a hand-over: claim what is due as its slots become free, until nothing is due.

Slots are taken first, then that many rows are claimed, and the loop goes on as slots free: a barrier after each window
would let one slow message stall a hundred.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from activities.accounts.account import Account, Accounts, Stop
from activities.accounts.slots import GATHER_S
from activities.handing_over.claiming import Claimer
from activities.handing_over.decisions import Decider
from activities.handing_over.holding import Holding
from activities.handing_over.provider_call import ProviderCall, target_of
from activities.handing_over.rerouting import Rerouting
from activities.handing_over.sending import Sending
from activities.pace import Pacing
from domain.lanes import CLAIM_WINDOW, PERMIT_WITHIN, SLOT_WITHIN
from domain.permits import STAYS_S, PermitRank
from domain.shares import Blocked
from infra.postgres.engine.claimed import Claim

MOST_CALLS_A_CLAIM = 64
"""A claim takes no more than this many calls' worth of rows, so that overlapping cohorts share an account."""
SLOT_AT_ONCE = 2 * timedelta(seconds=GATHER_S)
"""What has not come within `SLOT_WITHIN` is waited for no longer than it takes to see whether it has come by now."""


class CohortProgress(Protocol):
    """Who drives a cohort is told how its accounts get on."""

    def due_again(self, account: str, at_s: float) -> None:
        """Something is due over this account at this time.monotonic()."""
        ...

    def waiting_for_slot(self, account: str) -> AbstractContextManager[None]:
        """Held while slots of the account are waited for; afterwards the next claim is made."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopParts:
    """What the loops of one hand-over share."""

    accounts: Accounts
    claimer: Claimer
    decider: Decider
    holding: Holding
    rerouting: Rerouting
    sending: Sending
    pacing: Pacing
    progress: CohortProgress
    rank: PermitRank
    stopping: Callable[[], bool]


class AccountLoop:
    """Kept for as long as its hand-over: what it learned of the receivers outlives a round."""

    def __init__(self, name: str, parts: LoopParts) -> None:
        self._name = name
        self._parts = parts
        self._bounced_s: float | None = None
        """Seconds until the first of what goes back, because its receiver may have no more, is due again."""
        self._proven = False
        """Its last claim was of receivers that are all known to be quick."""
        self._stays: timedelta | None = None
        """How long it waits before it asks for a permit again."""
        self._stays_until_s = float("-inf")
        self.uncalled = False
        """It takes nothing, and something is due over it that needs no call."""

    async def run(self) -> bool:
        """Claim and send until nothing is due; returns with calls still in flight. False: something may still be due,
        because it was `stopping` or a claim was not answered."""
        stopping = self._parts.stopping
        await self._call(slot_within=SLOT_WITHIN)
        while self.uncalled and not stopping():
            self.uncalled = False
            if await self._without_calls(takes_nothing=True):
                await self._call(slot_within=SLOT_AT_ONCE)  # it may take something by now: the rest first goes there
        return not stopping() and not self._parts.claimer.unsure

    async def _call(self, *, slot_within: timedelta) -> None:
        parts = self._parts
        self._stays_until_s = time.monotonic() + PERMIT_WITHIN.total_seconds()
        while not parts.stopping():
            account = parts.accounts.get(self._name)
            if account is None or account.stopped is not None:
                if not await self._without_calls(stopped=None if account is None else account.stopped):
                    return
                continue
            if account.health.wait_s(parts.accounts.clock()) > 0:
                await parts.rerouting.go_round(account)
                return
            await parts.holding.writer.room()
            await parts.pacing.refresh()  # not between claim and call: whatever fails there would strand what was claimed
            most, first = parts.pacing.batch_limit(MOST_CALLS_A_CLAIM), parts.pacing.goes_first
            with parts.progress.waiting_for_slot(self._name):
                calls = await account.slots.take(most, first=first, within_s=slot_within.total_seconds())
            if calls == 0:
                await parts.rerouting.park(account, wait=timedelta(seconds=account.slots.put_off_s()))
                return
            goes_on = await self._claim_and_start(account, calls=calls)
            await parts.holding.return_if_any()
            if self._stays is not None:
                await asyncio.sleep(self._stays.total_seconds())  # without a slot
            bounced_s, self._bounced_s = self._bounced_s, None
            if bounced_s is not None:
                parts.progress.due_again(self._name, time.monotonic() + bounced_s)
            if not goes_on:
                return

    async def _claim_and_start(self, account: Account, *, calls: int) -> bool:
        """Use these slots for what is due, and give back the rest; False when there is nothing more to do now: fewer rows
        came than were asked for. (One that somebody else holds is seen by `leave`, and its account driven again.)"""
        parts, clock = self._parts, self._parts.accounts.clock
        capabilities, health = account.provider.capabilities, account.health
        begun, probing = health.may_begin(clock(), wanted=calls), health.probing(clock())
        era = health.begin(clock(), calls=begun)
        permitted_s = claimed_s = time.monotonic()
        stayed = self._has_stayed()
        limit = 0
        rows: list[Claim] = []
        blocked: Sequence[Blocked] = ()
        try:
            if begun == 0:
                return True  # another cohort has the probe: the loop looks how long to wait
            if not parts.stopping():
                most = parts.pacing.batch_limit(begun * capabilities.max_batch)
                if capabilities.many_servers and not self._proven:
                    most = min(most, account.unproven_at_once(clock(), taken=calls) * capabilities.max_batch)
                limit, permitted_s = await self._permitted(account, most, stayed=stayed)
            if limit:
                async with parts.pacing.exclusive():
                    blocked = account.blocked(clock(), taken=calls)
                    claimed_s = time.monotonic()
                    rows = await parts.claimer.claim(
                        self._name,
                        limit=limit,
                        call_timeout=timedelta(seconds=capabilities.call_timeout_s),
                        without=blocked,
                        probing=probing,
                    )
        finally:
            started = self._begun(account, rows, era=era, calls=calls)
            account.slots.give(calls - len(started))
            health.give_back(era=era, calls=begun - len(started))
        for call, batch in started:
            parts.sending.start(call, account, batch, start_by_s=claimed_s + CLAIM_WINDOW.total_seconds())
        going = sum(not claim.ends_unsent for _, batch in started for claim in batch)
        await parts.rerouting.unused(account, limit - going, since_s=permitted_s)
        if self._stays is not None:
            return True
        if len(rows) == limit:
            return bool(rows)
        if blocked:
            await parts.rerouting.park_blocked(account, blocked)
        if probing is not None and not rows:
            await parts.rerouting.without_probe(account)
        return False

    def _has_stayed(self) -> bool:
        stays, self._stays = self._stays, None
        return stays is not None

    async def _permitted(self, account: Account, most: int, *, stayed: bool) -> tuple[int, float]:
        """How many may be claimed now, and since when, in time.monotonic()."""
        rerouting, since_s = self._parts.rerouting, time.monotonic()
        stays_s = max(0.0, min(STAYS_S, self._stays_until_s - since_s))
        granted = await rerouting.permitted(account, most, rank=self._parts.rank, stays_s=stays_s, again=stayed)
        if granted.stays:
            self._stays = granted.wait
        elif granted.count and granted.wait:
            await asyncio.sleep(granted.wait.total_seconds())  # with the slots: nobody else has a permit until then
            since_s = time.monotonic()
            if self._parts.stopping():
                await rerouting.unused(account, granted.count, since_s=since_s)
                return 0, since_s
        return granted.count, since_s

    def _begun(
        self, account: Account, rows: Sequence[Claim], *, era: int, calls: int
    ) -> list[tuple[ProviderCall, Sequence[Claim]]]:
        """The calls that these rows make, each with a slot of `calls`. What its receiver may have no more of goes back: the
        next claim leaves that out."""
        size, started = account.provider.capabilities.max_batch, list[tuple[ProviderCall, Sequence[Claim]]]()
        many, clock = account.provider.capabilities.many_servers, self._parts.accounts.clock
        self._parts.holding.took(rows)
        self._proven = True
        for batch in [rows[i : i + size] for i in range(0, len(rows), size)]:
            going = self._sharing(account, batch, taken=calls - len(started)) if many else batch
            if going:
                started.append((ProviderCall(account, going, era=era, clock=clock), going))
        return started

    def _sharing(self, account: Account, batch: Sequence[Claim], *, taken: int) -> list[Claim]:
        """Those of the batch whose receivers may have another call; the others go back."""
        holding, decider = self._parts.holding, self._parts.decider
        now_s, going = self._parts.accounts.clock(), list[Claim]()
        for claim in batch:
            target = target_of(claim)
            wait_s = 0.0 if claim.ends_unsent else account.share_wait_s(target, now_s, taken=taken)
            if not account.shares.is_quick(target):
                self._proven = False
            if wait_s <= 0:
                going.append(claim)
            elif claim.has_waited:
                holding.end(decider.unserved(claim, takes_nothing=True))
            else:
                holding.end(decider.returned(claim, wait=timedelta(seconds=wait_s)))
                self._bounced_s = wait_s if self._bounced_s is None else min(wait_s, self._bounced_s)
        return going

    async def _without_calls(self, *, stopped: Stop | None = None, takes_nothing: bool = False) -> bool:
        """The account is gone or stopped. Some of its steps go over another; where there is none they wait for one that is
        stopped, as long as their chain allows, or end, and a chain goes on to the next channel. `takes_nothing`: at
        the moment; what needs no call, or has waited for long enough, goes on or ends. False: there were none. No more
        than one claim: before the next the account is looked at again."""
        holding, decider, nothing = self._parts.holding, self._parts.decider, timedelta(0)
        rows = await self._parts.claimer.claim(
            self._name, limit=MOST_CALLS_A_CLAIM, call_timeout=nothing, uncalled=takes_nothing
        )
        if not rows:
            return False
        holding.took(rows)
        for claim in rows:
            end = decider.unsent(claim, takes_nothing=takes_nothing)
            holding.end(end or decider.unserved(claim, stopped=stopped, takes_nothing=takes_nothing))
        await holding.settle()
        return True
