"""Calls of one hand-over: what may be sent is rendered and handed over, and each claim of it comes to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from activities.accounts.account import Account
from activities.handing_over.contents import Contents, message
from activities.handing_over.decisions import Decider, End
from activities.handing_over.holding import Holding
from activities.handing_over.provider_call import ProviderCall
from activities.recording.patience import Outages
from channels.base import Message
from domain.errors import Failed, NoLongerWanted, OutOfTime, Rejected
from domain.lanes import MOST_INTERNAL_FAILURES
from domain.rechecks import Verdict
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.locks import LOST_RACE
from infra.postgres.errors import is_away

log = structlog.get_logger()

FAULT_WAIT = timedelta(seconds=5)
AWAY_WAIT = timedelta(seconds=1)


class Sending:
    def __init__(self, contents: Contents, *, holding: Holding, decider: Decider, outages: Outages) -> None:
        self._contents = contents
        self._holding = holding
        self._decider = decider
        self._outages = outages
        self._calls: set[asyncio.Task[None]] = set()

    def start(self, call: ProviderCall, account: Account, batch: Sequence[Claim], *, start_by_s: float) -> None:
        """What is not ready by this time.monotonic() goes back unsent."""
        task = asyncio.create_task(self._send(call, account, batch, start_by_s=start_by_s))
        self._calls.add(task)
        task.add_done_callback(self._call_ended)

    async def wait_all(self, *, within_s: float) -> bool:
        """Until no call is under way, or for so long; whether none is."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=within_s)
        return not self._calls

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        """What raised is a defect of ours; its claims count as unknown in time."""
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("hand_over.defect", code=type(error).__name__)

    async def _send(self, call: ProviderCall, account: Account, batch: Sequence[Claim], *, start_by_s: float) -> None:
        """One call: render what may be sent, hand it over, note what came of each."""
        try:
            ready = list[tuple[Claim, Message]]()
            for claim in batch:
                made = await self._made(claim, account)
                if isinstance(made, Message):
                    ready.append((claim, made))
                else:
                    self._holding.end(made)
            if ready and time.monotonic() >= start_by_s:
                for claim, _ in ready:
                    self._holding.end(self._decider.returned(claim))
            elif ready:
                started_s = time.monotonic()
                results = await call.make([c for c, _ in ready], [m for _, m in ready])
                for (claim, _), result in zip(ready, results, strict=True):
                    self._holding.end(self._decider.answered(claim, result, started_s=started_s))
        finally:
            call.end()
            self._holding.writer.nudge()

    async def _made(self, claim: Claim, account: Account) -> Message | End:
        """The message to send, or the end of its claim without one."""
        if (end := self._decider.unsent(claim)) is not None:
            return end
        if account.tenant not in (None, claim.tenant):  # whatever brought it here: it leaves over nobody else's account
            return self._decider.unserved(claim)
        try:
            rendered = message(claim, await self._contents.content(claim))
            if claim.database_time(time.monotonic()) < claim.expires_at:
                return rendered
            return self._decider.stopped(replace(claim, verdict=Verdict.EXPIRED))
        except NoLongerWanted as error:
            verdict = Verdict.EXPIRED if isinstance(error, OutOfTime) else Verdict.CANCELLED
            return self._decider.stopped(replace(claim, verdict=verdict))
        except Rejected as error:
            return self._decider.broken(claim, error.code)
        except Exception as error:
            return self._failed(claim, error)

    def _failed(self, claim: Claim, error: Exception) -> End:
        """An outage costs nothing, nor does somebody's lock. A defect of ours before the first byte: put it off, and give
        it up the third time. Others go on."""
        if is_away(error):
            self._outages.met()
        if is_away(error) or isinstance(error, LOST_RACE) or (isinstance(error, Failed) and error.transient):
            return self._decider.returned(claim, wait=AWAY_WAIT)
        code = type(error).__name__
        log.error("hand_over.fault", notification_id=str(claim.notification_id), n=claim.n, code=code)
        if claim.faults + 1 >= MOST_INTERNAL_FAILURES:
            return self._decider.quarantined(claim, code)
        return self._decider.returned(claim, faults=1, wait=FAULT_WAIT)
