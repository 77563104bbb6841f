"""The hand-over: one loop for each provider account, as wide as the account's free slots.

Slots are taken first, then that many rows are claimed, and the loop goes on as slots free: a barrier after each window
would let one slow message stall a hundred.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import structlog

from activities.accounts.account import Account, Accounts, Stop
from activities.accounts.slots import GATHER_S
from activities.handing_over.claiming import Claimer
from activities.handing_over.contents import Contents, message
from activities.handing_over.decisions import Decider
from activities.handing_over.losses import Losses, record_lost
from activities.handing_over.provider_call import ProviderCall, target_of
from activities.handing_over.rerouting import Rerouting
from activities.pace import UNPACED, Pacing
from activities.recording.follow_ups import DueAgain
from activities.recording.outcomes import Outcomes, OutcomeWriter
from activities.recording.patience import patiently
from channels.base import Message
from domain.errors import Failed, NoLongerWanted, OutOfTime, Rejected
from domain.lanes import CLAIM_WINDOW, MOST_INTERNAL_FAILURES, SLOT_WITHIN
from domain.permits import PermitRank
from domain.rechecks import Verdict
from domain.shares import Blocked
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.errors import is_away

log = structlog.get_logger()

MOST_CALLS_A_CLAIM = 64
"""A claim takes no more than this many calls' worth of rows, so that overlapping cohorts share an account."""
MOST_LOST = 500
FAULT_WAIT = timedelta(seconds=5)
AWAY_WAIT = timedelta(seconds=1)
SLOT_AT_ONCE = 2 * timedelta(seconds=GATHER_S)
"""What has not come within `SLOT_WITHIN` is waited for no longer than it takes to see whether it has come by now."""


class HandOver:
    """Hands over one cohort's due rows. Made anew for each activity; accounts and slots are the process's."""

    def __init__(
        self,
        claims: ClaimRepository,
        outcomes: Outcomes,
        accounts: Accounts,
        contents: Contents,
        *,
        cohort: UUID,
        epoch: int,
        stopping: Callable[[], bool],
        losses: Losses,
        lost_to: Outcomes | None = None,
        pacing: Pacing = UNPACED,
        due_again: DueAgain = lambda *_: None,
        waits_since: dict[str, float] | None = None,
        moved: Callable[[str], None] = lambda _: None,
        rank: PermitRank = PermitRank.BULK,
    ) -> None:
        """`lost_to`: where lost ones are recorded, if not with the others. `moved` is told of an account when its slots
        have been waited for, and the next claim is made."""
        self._claims = claims
        self._claimer = Claimer(claims, cohort=cohort, epoch=epoch, outages=losses.outages)
        self._losses = losses
        self._pacing = pacing
        self._due_again = due_again
        self._waits_since: dict[str, float] = {} if waits_since is None else waits_since
        """Of the cohort: accounts -> since when a slot of theirs is waited for."""
        self._moved = moved
        self._bounced: dict[str, float] = {}
        """Accounts -> seconds until the first of what goes back, because its receiver may have no more, is due again."""
        self._proven: set[str] = set()
        """Accounts whose last claim was of receivers that are all known to be quick."""
        self._accounts = accounts
        self._contents = contents
        self._cohort = cohort
        self._epoch = epoch
        self._stopping = stopping
        self._rank = rank
        self._decider = Decider(accounts, cohort=cohort, epoch=epoch)
        self._uncalled: set[str] = set()
        """Accounts that take nothing, over which something is due that needs no call."""
        self._rerouting = Rerouting(
            claims.queue, accounts, cohort=cohort, epoch=epoch, due_again=due_again, uncalled=self._uncalled.add
        )
        self._in_flight = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._back: list[Returned] = []
        self._going_back: list[list[Returned]] = []
        self._writer = OutcomeWriter(outcomes, in_flight=lambda: self._in_flight, outages=losses.outages)
        self._lost_to = lost_to or outcomes
        self._lost = 0
        losses.holders.add(self)

    @property
    def handed_over(self) -> int:
        return self._writer.written + self._lost

    def held(self) -> Iterator[tuple[UUID, int, int]]:
        """Claims whose end is known here and may yet be written (`activities.handing_over.losses.Holder`)."""
        if self._writer.closed:
            return
        for outcome in self._writer.held():
            yield *outcome.claim.step, outcome.claim.attempt
        for back in (self._back, *self._going_back):
            for claim in back:
                yield claim.notification_id, claim.n, claim.attempt

    async def account(self, name: str) -> bool:
        """Claim and send over one account until nothing is due; returns with calls still in flight. False: something may
        still be due, because it was `stopping` or a claim was not answered."""
        await self._call(name)
        while name in self._uncalled and not self._stopping():
            self._uncalled.discard(name)
            if await self._without_calls(name, uncalled=True):
                await self._call(name, slot_within=SLOT_AT_ONCE)  # it may take something by now: the rest first goes there
        return not self._stopping() and not self._claimer.unsure

    async def _call(self, name: str, *, slot_within: timedelta = SLOT_WITHIN) -> None:
        while not self._stopping():
            account = self._accounts.get(name)
            if account is None or account.stopped is not None:
                if not await self._without_calls(name, stopped=None if account is None else account.stopped):
                    return
                continue
            if account.health.wait_s(self._accounts.clock()) > 0:
                await self._rerouting.go_round(account)
                return
            await self._writer.room()
            await self._pacing.refresh()  # not between claim and call: whatever fails there would strand what was claimed
            most, first = self._pacing.batch_limit(MOST_CALLS_A_CLAIM), self._pacing.goes_first
            self._waits_since.setdefault(name, time.monotonic())
            try:
                calls = await account.slots.take(most, first=first, within_s=slot_within.total_seconds())
            finally:
                self._waits_since.pop(name, None)
                self._moved(name)
            if calls == 0:
                await self._rerouting.park(account, wait=timedelta(seconds=account.slots.put_off_s()))
                return
            goes_on = await self._claim_and_start(account, calls=calls)
            if self._back:
                await self._return_unsent()
            if (wait_s := self._bounced.pop(name, None)) is not None:
                self._due_again(name, time.monotonic() + wait_s)
            if not goes_on:
                return

    async def _claim_and_start(self, account: Account, *, calls: int) -> bool:
        """Use these slots for what is due, and give back the rest; False when there is nothing more to do now: fewer rows
        came than were asked for. (One that somebody else holds is seen by `leave`, and its account driven again.)"""
        capabilities, health = account.provider.capabilities, account.health
        begun, probing = health.may_begin(self._accounts.clock(), wanted=calls), health.probing(self._accounts.clock())
        era = health.begin(self._accounts.clock(), calls=begun)
        claimed_s = permitted_s = time.monotonic()
        limit = 0
        rows: list[Claim] = []
        blocked: Sequence[Blocked] = ()
        try:
            if begun == 0:
                return True  # another cohort has the probe: the loop looks how long to wait
            if not self._stopping():
                most = self._pacing.batch_limit(begun * capabilities.max_batch)
                if capabilities.many_servers and account.name not in self._proven:
                    most = min(most, account.unproven_at_once(self._accounts.clock(), taken=calls) * capabilities.max_batch)
                limit = await self._rerouting.permitted(account, most, rank=self._rank)
            if limit:
                async with self._pacing.exclusive():
                    blocked = account.blocked(self._accounts.clock(), taken=calls)
                    claimed_s = time.monotonic()
                    rows = await self._claimer.claim(
                        account.name,
                        limit=limit,
                        call_timeout=timedelta(seconds=capabilities.call_timeout_s),
                        without=blocked,
                        probing=probing,
                    )
        finally:
            started, used = self._begun(account, rows, era=era, calls=calls)
            account.slots.give(calls - used)
            health.give_back(era=era, calls=begun - used)
        for call, batch in started:
            self._start(call, account, batch, start_by_s=claimed_s + CLAIM_WINDOW.total_seconds())
        going = sum(not claim.ends_unsent for _, batch in started for claim in batch)
        await self._rerouting.unused(account, limit - going, since_s=permitted_s)
        if len(rows) == limit:
            return bool(rows)
        if blocked:
            await self._rerouting.park_blocked(account, blocked)
        elif probing is not None and not rows:
            await self._rerouting.without_probe(account)
        return False

    def _begun(
        self, account: Account, rows: Sequence[Claim], *, era: int, calls: int
    ) -> tuple[list[tuple[ProviderCall, Sequence[Claim]]], int]:
        """The calls that these rows make, and how many of the slots they use. What its receiver may have no more of goes
        back: the next claim leaves that out."""
        size, started = account.provider.capabilities.max_batch, list[tuple[ProviderCall, Sequence[Claim]]]()
        many, clock = account.provider.capabilities.many_servers, self._accounts.clock
        self._in_flight += len(rows)
        self._proven.add(account.name)
        for batch in [rows[i : i + size] for i in range(0, len(rows), size)]:
            going = self._sharing(account, batch, taken=calls - len(started)) if many else batch
            if going:
                started.append((ProviderCall(account, going, era=era, clock=clock), going))
        return started, len(started)

    def _sharing(self, account: Account, batch: Sequence[Claim], *, taken: int) -> list[Claim]:
        """Those of the batch whose receivers may have another call; the others go back."""
        now_s, going = self._accounts.clock(), list[Claim]()
        for claim in batch:
            target = target_of(claim)
            wait_s = 0.0 if claim.ends_unsent else account.share_wait_s(target, now_s, taken=taken)
            if not account.shares.is_quick(target):
                self._proven.discard(account.name)
            if wait_s <= 0:
                going.append(claim)
                continue
            if claim.has_waited:
                self._unserved(claim, uncalled=True)
                continue
            self._give_back([self._decider.returned(claim, wait=timedelta(seconds=wait_s))])
            self._bounced[account.name] = min(wait_s, self._bounced.get(account.name, wait_s))
        return going

    async def _without_calls(self, name: str, *, stopped: Stop | None = None, uncalled: bool = False) -> bool:
        """The account is gone or stopped. Some of its steps go over another; where there is none they wait for one that is
        stopped, as long as their chain allows, or end, and a chain goes on to the next channel. `uncalled`: it takes
        nothing at the moment; what needs no call, or has waited for long enough, goes on or ends. False: there were none.
        No more than one claim: before the next the account is looked at again."""
        nothing = timedelta(0)
        rows = await self._claimer.claim(name, limit=MOST_CALLS_A_CLAIM, call_timeout=nothing, uncalled=uncalled)
        if not rows:
            return False
        self._in_flight += len(rows)
        for claim in rows:
            if not self._ended(claim, uncalled=uncalled):
                self._unserved(claim, stopped=stopped, uncalled=uncalled)
        await self._return_unsent()
        await self._writer.settle()
        return True

    def _unserved(self, claim: Claim, *, stopped: Stop | None = None, uncalled: bool = False) -> None:
        self._conclude(self._decider.unserved(claim, stopped=stopped, uncalled=uncalled))

    async def settle(self) -> None:
        """Wait for what is in flight; afterwards everything that happened is recorded and nothing is in our hands."""
        while self._calls:
            await asyncio.wait(self._calls)
        await self._return_unsent()
        await self._writer.settle()

    async def close(self) -> None:
        """Settle, and stop the writer."""
        try:
            await self.settle()
        finally:
            await self._writer.close()

    async def recover(self) -> None:
        """Record as unknown what an earlier attempt handed over without bringing home an outcome; nothing that another
        account's turn, here or elsewhere, may still bring home."""
        lost = await self._losses.of(self._cohort, limit=MOST_LOST)
        self._lost += await record_lost(self._lost_to, list(self._decider.all_lost(lost)), losses=self._losses)

    async def _return_unsent(self) -> None:
        """Tried as long as an outcome is: what is not given back counts as unknown, though not a byte of it left."""
        await self._return_known()
        self._back += [self._decider.returned(claim) for claim in await self._claimer.settle()]
        await self._return_known()

    async def _return_known(self) -> None:
        back, self._back = self._back, []
        self._going_back.append(back)
        try:
            await patiently(lambda: self._claims.give_back(back), outages=self._losses.outages)
        except BaseException:
            self._back += back  # tried once more at the end
            raise
        finally:
            self._going_back.remove(back)

    def _start(self, call: ProviderCall, account: Account, batch: Sequence[Claim], *, start_by_s: float) -> None:
        task = asyncio.create_task(self._send(call, account, batch, start_by_s=start_by_s))
        self._calls.add(task)
        task.add_done_callback(self._call_ended)

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        """What raised is a defect of ours; its claims count as unknown in time."""
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("hand_over.defect", code=type(error).__name__)

    async def _send(self, call: ProviderCall, account: Account, batch: Sequence[Claim], *, start_by_s: float) -> None:
        """One call: render what may be sent, hand it over, note what came of each."""
        try:
            ready = [pair for claim in batch if (pair := await self._ready(claim, account)) is not None]
            if ready and time.monotonic() >= start_by_s:
                self._give_back([self._decider.returned(c) for c, _ in ready])
            elif ready:
                started_s = time.monotonic()
                results = await call.make([c for c, _ in ready], [m for _, m in ready])
                for (claim, _), result in zip(ready, results, strict=True):
                    self._conclude(self._decider.answered(claim, result, started_s=started_s))
        finally:
            call.end()
            self._writer.nudge()

    def _conclude(self, outcome: StepOutcome) -> None:
        """It is in our hands no longer."""
        self._in_flight -= 1
        self._writer.put(outcome)

    def _ended(self, claim: Claim, *, uncalled: bool = False) -> bool:
        """The claim has come to its end, or goes back, without being sent. `uncalled`: its account takes nothing."""
        if claim.awaiting:
            self._conclude(self._decider.overdue(claim))
            return True
        if claim.verdict is Verdict.STALE:
            self._give_back([self._decider.returned(claim, wait=AWAY_WAIT)])
            return True
        if claim.verdict is not Verdict.SEND:
            self._conclude(self._decider.stopped(claim, uncalled=uncalled))
            return True
        return False

    async def _ready(self, claim: Claim, account: Account) -> tuple[Claim, Message] | None:
        """The message to send; None when the claim has come to its end, or goes back, without being sent."""
        if self._ended(claim):
            return None
        if account.tenant not in (None, claim.tenant):  # whatever brought it here: it leaves over nobody else's account
            self._unserved(claim)
            return None
        try:
            rendered = message(claim, await self._contents.content(claim))
            if claim.database_time(time.monotonic()) < claim.expires_at:
                return claim, rendered
            self._conclude(self._decider.stopped(replace(claim, verdict=Verdict.EXPIRED)))
        except NoLongerWanted as error:
            verdict = Verdict.EXPIRED if isinstance(error, OutOfTime) else Verdict.CANCELLED
            self._conclude(self._decider.stopped(replace(claim, verdict=verdict)))
        except Rejected as error:
            self._conclude(self._decider.broken(claim, error.code))
        except Exception as error:
            if is_away(error):
                self._losses.outages.met()
            if is_away(error) or (isinstance(error, Failed) and error.transient):
                self._give_back([self._decider.returned(claim, wait=AWAY_WAIT)])
            else:
                self._fault(claim, error)
        return None

    def _fault(self, claim: Claim, error: Exception) -> None:
        """A defect of ours before the first byte: put it off, and give it up the third time. Others go on."""
        code = type(error).__name__
        log.error("hand_over.fault", notification_id=str(claim.notification_id), n=claim.n, code=code)
        if claim.faults + 1 >= MOST_INTERNAL_FAILURES:
            self._conclude(self._decider.quarantined(claim, code))
        else:
            self._give_back([self._decider.returned(claim, faults=1, wait=FAULT_WAIT)])

    def _give_back(self, claims: Sequence[Returned]) -> None:
        self._in_flight -= len(claims)
        self._back.extend(claims)
