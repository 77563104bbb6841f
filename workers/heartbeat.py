"""What a worker process says of itself every few seconds: that it lives, and how its accounts do.

One small row for the process each time, and one for each account of which something has changed since: calls cost no write.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from activities.accounts.account import Account, Accounts
from activities.recording.patience import Outages
from domain.health import Circuit
from domain.refusal import PROBLEM
from infra.postgres.errors import is_away
from infra.postgres.tenants.account_health import AccountHealthRepository, AccountState
from infra.postgres.tenants.worker_signs import name_of
from infra.telemetry.engine_metrics import ACCOUNT_REFUSED, CIRCUIT_OPEN
from workers.accounts import Wake
from workers.waking import Waker

log = structlog.get_logger()

EVERY_S = 5.0
CLEAN_EVERY = 60
"""Beats from one clean-up to the next."""


class Heartbeat:
    """One a process. `version` gives the change of accounts that is in force in it."""

    def __init__(
        self,
        accounts: Accounts,
        repository: AccountHealthRepository,
        *,
        process: UUID,
        version: Callable[[], int],
        name: str = "",
        lanes: Sequence[str] = (),
        outages: Outages | None = None,
        wake: Wake | None = None,
    ) -> None:
        """`lanes`: what the process serves. `outages` counts those that a beat meets, also while nothing else goes on in
        this process. `wake` makes due what no account of a channel took."""
        self._waker = None if wake is None else Waker(wake)
        self._outages = outages or Outages()
        self._accounts = accounts
        self._repository = repository
        self._process = process
        self._version = version
        self._name = name or name_of(f"{socket.gethostname()}:{os.getpid()}", lanes=lanes)
        self._said: dict[str, tuple[object, ...]] = {}

    async def beat(self) -> None:
        """Write that this process lives and how its accounts do. Raises what the database raises; the next makes up."""
        now_s = self._accounts.clock()
        _show(self._accounts, now_s)
        seen = {account.name: (_mark(account, now_s), account) for account in self._accounts}
        changed = [account for name, (mark, account) in seen.items() if self._said.get(name, _NOTHING) != mark]
        gone = [name for name in self._said if name not in seen]
        await self._repository.sign(self._process, name=self._name, accounts_version=self._version())
        await self._repository.write(self._process, states=[_state(a, now_s) for a in changed], gone=gone)
        self._said = {name: mark for name, (mark, _) in seen.items() if mark != _NOTHING or name in self._said}
        await self._learn(now_s)

    async def _learn(self, now_s: float) -> None:
        """Where a circuit is open in this process alone, a probe is made now, ever more rarely while none succeeds, and
        what waits is made due, though not within the beat: it may go by another process meanwhile."""
        health = {a.name: a.health for a in self._accounts if a.health.circuit(now_s) is Circuit.OPEN}
        failed = {name: ago for name, one in health.items() if (ago := _ago(one.failed_s, now_s)) is not None}
        for name in await self._repository.working(self._process, failed=failed) if failed else ():
            account = self._accounts.get(name)
            if health[name].look_again(now_s) and account is not None and self._waker is not None:
                log.info("account.probed_early", account=name)
                self._waker.ask(account)

    async def settled(self) -> None:
        """Wait until what the beats have found to wait for an account is due."""
        if self._waker is not None:
            await self._waker.settled()

    async def run_forever(self) -> None:
        turns = 0
        while True:
            try:
                await self.beat()
                if turns % CLEAN_EVERY == 0:
                    await self._repository.clean()
                turns += 1
            except Exception as error:
                if is_away(error):
                    self._outages.met()
                else:
                    log.exception("heartbeat.failed")
            await asyncio.sleep(EVERY_S)

    async def stop(self) -> None:
        """The process says that it ends, so that nobody has to notice its silence."""
        if self._waker is not None:
            await self._waker.close()
        try:
            await self._repository.clean(ending=self._process)
        except Exception as error:
            log.debug("heartbeat.not_taken_back", code=type(error).__name__)


_NOTHING: tuple[object, ...] = (Circuit.CLOSED, 0.0, 0, None, None, None)
"""The mark of an account that was not used yet: nothing is written of it."""


def _mark(account: Account, now_s: float) -> tuple[object, ...]:
    """A mark that differs when there is something new to write."""
    health = account.health
    slow = round(1.0 - health.weight_share(now_s), 2)
    return (
        health.circuit(now_s), slow, account.in_use, health.succeeded_s, health.failed_s, _problem(account),
    )  # fmt: skip


def _state(account: Account, now_s: float) -> AccountState:
    health = account.health
    circuit = health.circuit(now_s)
    return AccountState(
        account=account.name,
        circuit=circuit,
        retry_in=timedelta(seconds=health.wait_s(now_s)) if circuit is Circuit.OPEN else None,
        slow_share=round(1.0 - health.weight_share(now_s), 2),
        in_flight=account.in_use,
        slots=account.slots.capacity,
        succeeded_ago=_ago(health.succeeded_s, now_s),
        failed_ago=_ago(health.failed_s, now_s),
        failure=health.failure or None,
        problem=_problem(account),
    )


def _problem(account: Account) -> str | None:
    """What is wrong with the account's row, or else what its provider's answers say of it."""
    return account.problem or (PROBLEM if account.health.refusal.said else None)


def _show(accounts: Iterable[Account], now_s: float) -> None:
    """Set the gauges of each; one that is gone, or was replaced by a changed one, is not shown as it was."""
    ACCOUNT_REFUSED.clear()
    CIRCUIT_OPEN.clear()
    for account in accounts:
        if account.health.circuit(now_s) is not Circuit.CLOSED:
            CIRCUIT_OPEN.labels(account.channel, account.name).set(1)
        if account.health.refusal.said:
            ACCOUNT_REFUSED.labels(account.channel, account.name).set(1)


def _ago(at_s: float | None, now_s: float) -> timedelta | None:
    return None if at_s is None else timedelta(seconds=max(0.0, now_s - at_s))
