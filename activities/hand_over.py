"""The hand-over: one loop for each provider account, as wide as the account's free slots.

Slots are taken first, then that many rows are claimed, and the loop goes on as slots free: a barrier after each window
would let one slow message stall a hundred.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import structlog

from activities.accounts import Account, Accounts, Stop
from activities.claiming import Claimer
from activities.contents import Contents, message
from activities.decisions import Decider
from activities.follow_ups import DueAgain
from activities.losses import Losses
from activities.outcomes import Outcomes, OutcomeWriter
from activities.pace import UNPACED, Pacing
from activities.patience import patiently
from channels.base import Message
from domain.errors import Failed, NoLongerWanted, OutOfTime, Rejected
from domain.health import FAILURES
from domain.lanes import CLAIM_WINDOW, MOST_INTERNAL_FAILURES
from domain.rechecks import Verdict
from domain.results import ResultClass, SendResult
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.giving_back import Returned
from infra.postgres.errors import is_away
from infra.telemetry.engine_metrics import PARKED

log = structlog.get_logger()

MOST_CALLS_A_CLAIM = 64
"""A claim takes no more than this many calls' worth of rows, so that overlapping cohorts share an account."""
MOST_LOST = 500
FAULT_WAIT = timedelta(seconds=5)
AWAY_WAIT = timedelta(seconds=1)


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
        pacing: Pacing = UNPACED,
        due_again: DueAgain = lambda *_: None,
    ) -> None:
        self._claims = claims
        self._claimer = Claimer(claims, cohort=cohort, epoch=epoch)
        self._losses = losses
        self._pacing = pacing
        self._due_again = due_again
        self._accounts = accounts
        self._contents = contents
        self._cohort = cohort
        self._epoch = epoch
        self._stopping = stopping
        self._decider = Decider(accounts, cohort=cohort, epoch=epoch)
        self._in_flight = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._back: list[Returned] = []
        self._writer = OutcomeWriter(outcomes, in_flight=lambda: self._in_flight)

    @property
    def handed_over(self) -> int:
        return self._writer.written

    async def account(self, name: str) -> None:
        """Claim and send over one account until nothing is due, or until `stopping`; returns with calls still in flight."""
        while not self._stopping():
            account = self._accounts.get(name)
            if account is None or account.stopped is not None:
                await self._reroute_from(name, stopped=None if account is None else account.stopped)
                return
            wait_s = account.health.wait_s(self._accounts.clock())
            if wait_s > 0:
                await self._go_round(account, wait_s=wait_s)
                return
            await self._writer.room()
            await self._pacing.refresh()  # not between claim and call: whatever fails there would strand what was claimed
            take = account.slots.take_first if self._pacing.goes_first else account.slots.take
            calls = await take(self._pacing.batch_limit(MOST_CALLS_A_CLAIM))
            if not await self._claim_and_start(account, calls=calls):
                return

    async def _claim_and_start(self, account: Account, *, calls: int) -> bool:
        """Use these slots for what is due, and give back the rest; False when there is nothing more to do now: fewer rows
        came than were asked for. (One that somebody else holds is seen by `leave`, and its account driven again.)"""
        capabilities, health = account.provider.capabilities, account.health
        begun = health.may_begin(self._accounts.clock(), wanted=calls)
        health.begin(self._accounts.clock(), calls=begun)
        claimed_s = time.monotonic()
        rows: list[Claim] = []
        try:
            if begun == 0:
                return True  # another cohort has the probe: the loop looks how long to wait
            limit = (
                0
                if self._stopping()
                else await self._permitted(account, self._pacing.batch_limit(begun * capabilities.max_batch))
            )
            if limit:
                async with self._pacing.exclusive():
                    claimed_s = time.monotonic()
                    rows = await self._claimer.claim(
                        account.name, limit=limit, call_timeout=timedelta(seconds=capabilities.call_timeout_s)
                    )
        finally:
            batches = [rows[i : i + capabilities.max_batch] for i in range(0, len(rows), capabilities.max_batch)]
            account.slots.give(calls - len(batches))
            health.give_back(calls=begun - len(batches))
        self._in_flight += len(rows)
        for batch in batches:
            self._start(account, batch, start_by_s=claimed_s + CLAIM_WINDOW.total_seconds())
        return bool(rows) and len(rows) == limit

    async def _permitted(self, account: Account, most: int) -> int:
        """How many of `most` may be claimed. Without a permit the rows are parked, and no slot waits for one."""
        if account.permits is None:
            return most
        due = await self._claims.queue.due(self._cohort, account=account.name, limit=most)
        if not due:
            return 0
        granted = await account.permits.take(due)
        if granted.count == 0:
            await self._park(account, wait=granted.wait, spacing=granted.spacing)
        return granted.count

    async def _go_round(self, account: Account, *, wait_s: float) -> None:
        """Its circuit is open: over another account of the same tenant, or later."""
        ways: dict[str | None, list[str]] = {}
        for tenant in await self._claims.queue.tenants(self._cohort, account=account.name):
            other = self._accounts.choose(tenant, account.channel, tried=(account.name,))
            ways.setdefault(other.name if other else None, []).append(tenant)
        for name, tenants in ways.items():
            if name is None:
                await self._park(account, wait=timedelta(seconds=wait_s), spacing=timedelta(0), tenants=tenants)
            else:
                await self._move(account, name, tenants=tenants)

    async def _park(
        self, account: Account, *, wait: timedelta, spacing: timedelta, tenants: Sequence[str] | None = None
    ) -> None:
        PARKED.labels(account.channel).inc()
        await self._claims.queue.park(
            self._cohort, epoch=self._epoch, account=account.name, wait=wait, spacing=spacing, tenants=tenants
        )
        self._due_again(account.name, time.monotonic() + wait.total_seconds())

    async def _move(self, account: Account, to: str, *, tenants: Sequence[str]) -> None:
        detail = {"channel": account.channel, "account": to, "after": account.name, "reason": "circuit_open"}
        await self._claims.queue.move(
            self._cohort, epoch=self._epoch, account=account.name, to=to, detail=detail, tenants=tenants
        )
        self._due_again(to, time.monotonic())

    async def _reroute_from(self, name: str, *, stopped: Stop | None) -> None:
        """The account is gone or stopped. Its steps go over another; where there is none they wait for one that is
        stopped, or end, and a chain goes on to the next channel."""
        nothing = timedelta(0)
        while rows := await self._claimer.claim(name, limit=MOST_CALLS_A_CLAIM, call_timeout=nothing):
            self._in_flight += len(rows)
            for claim in rows:
                if not self._ended(claim):
                    self._unserved(claim, stopped=stopped)
            await self._return_unsent()
            await self._writer.settle()

    def _unserved(self, claim: Claim, *, stopped: Stop | None = None) -> None:
        self._in_flight -= 1
        self._writer.put(self._decider.unserved(claim, stopped=stopped))

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
        for outcome in self._decider.all_lost(await self._losses.of(self._cohort, limit=MOST_LOST)):
            self._writer.put(outcome)

    async def _return_unsent(self) -> None:
        """Tried as long as an outcome is: what is not given back counts as unknown, though not a byte of it left."""
        await self._return_known()
        self._back += [self._decider.returned(claim) for claim in await self._claimer.settle()]
        await self._return_known()

    async def _return_known(self) -> None:
        back, self._back = self._back, []
        try:
            await patiently(lambda: self._claims.give_back(back))
        except BaseException:
            self._back += back  # tried once more at the end
            raise

    def _start(self, account: Account, batch: Sequence[Claim], *, start_by_s: float) -> None:
        task = asyncio.create_task(self._send(account, batch, start_by_s=start_by_s))
        self._calls.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        """What raised is a defect of ours; its claims count as unknown in time."""
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("hand_over.defect", code=type(error).__name__)

    async def _send(self, account: Account, batch: Sequence[Claim], *, start_by_s: float) -> None:
        """One call: render what may be sent, hand it over, note what came of each."""
        called = False
        try:
            ready = [pair for claim in batch if (pair := await self._ready(claim, account)) is not None]
            if ready and time.monotonic() >= start_by_s:
                self._give_back([self._decider.returned(c) for c, _ in ready])
            elif ready:
                started_s = time.monotonic()
                results = await _call(account, [m for _, m in ready])
                called = True
                _note(account, results, at_s=self._accounts.clock(), took_s=time.monotonic() - started_s)
                self._in_flight -= len(ready)
                for (claim, _), result in zip(ready, results, strict=True):
                    self._writer.put(self._decider.answered(claim, result, started_s=started_s))
        finally:
            if not called:
                account.health.give_back()
            account.slots.give()
            self._writer.nudge()

    def _ended(self, claim: Claim) -> bool:
        """The claim has come to its end, or goes back, without being sent."""
        if claim.awaiting:
            self._in_flight -= 1
            self._writer.put(self._decider.overdue(claim))
            return True
        if claim.verdict is Verdict.STALE:
            self._give_back([self._decider.returned(claim, wait=AWAY_WAIT)])
            return True
        if claim.verdict is not Verdict.SEND:
            self._in_flight -= 1
            self._writer.put(self._decider.stopped(claim))
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
            self._in_flight -= 1
            self._writer.put(self._decider.stopped(replace(claim, verdict=Verdict.EXPIRED)))
        except NoLongerWanted as error:
            verdict = Verdict.EXPIRED if isinstance(error, OutOfTime) else Verdict.CANCELLED
            self._in_flight -= 1
            self._writer.put(self._decider.stopped(replace(claim, verdict=verdict)))
        except Rejected as error:
            self._in_flight -= 1
            self._writer.put(self._decider.broken(claim, error.code))
        except Exception as error:
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
            self._in_flight -= 1
            self._writer.put(self._decider.quarantined(claim, code))
        else:
            self._give_back([self._decider.returned(claim, faults=1, wait=FAULT_WAIT)])

    def _give_back(self, claims: Sequence[Returned]) -> None:
        self._in_flight -= len(claims)
        self._back.extend(claims)


def _note(account: Account, results: Sequence[SendResult], *, at_s: float, took_s: float) -> None:
    """One call, one note: it failed if all of it did. Nothing is noted of servers that are the recipients' own."""
    for result in results:
        if not result.of_recipient:
            account.health.remember(result.result, result.code, now_s=at_s)
    if account.provider.capabilities.many_servers:
        account.health.give_back()
        return
    kinds = {ResultClass.RECIPIENT if result.of_recipient else result.result for result in results}
    worked = kinds - FAILURES
    account.health.note(next(iter(worked or kinds)), now_s=at_s, took_s=took_s)


async def _call(account: Account, messages: Sequence[Message]) -> Sequence[SendResult]:
    """The provider's answers. An adapter that raises, answers too late, too little or nonsense leaves it open."""
    limit_s = account.provider.capabilities.call_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            results = await account.provider.send(messages)
        if len(results) == len(messages):
            return [r if isinstance(r, SendResult) else SendResult(ResultClass.UNKNOWN, "wrong_type") for r in results]
        code = "wrong_count"
    except TimeoutError:
        code = "call_timeout"
    except (Exception, asyncio.CancelledError) as error:  # nobody cancels a call of ours: the adapter cancelled itself
        log.error("provider.defect", provider=account.provider.capabilities.provider, code=type(error).__name__)
        code = "adapter_error"
    return [SendResult(ResultClass.UNKNOWN, code=code)] * len(messages)
