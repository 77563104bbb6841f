"""The accounts of a worker process, kept up with the database: a change is used within `LOOK_EVERY_S`, without a restart.

The loader asks for the version of all accounts together; only when that has moved does it read them. What has not changed
keeps its connections, slots and health; what has gone is closed once nothing is in flight over it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from activities.accounts.account import Account, Accounts
from activities.accounts.making import AccountMaker
from domain.channels import Channel
from infra.postgres.errors import is_away
from infra.postgres.tenants.provider_accounts import ProviderAccountRepository, StoredAccount

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
DRAIN_MOST_S = 120.0
"""Longer than any call takes: after it, callers have given up what is still in flight."""


class Wake(Protocol):
    """Makes due what waits for an account of this channel."""

    def __call__(self, channel: Channel, *, tenant: str | None) -> Awaitable[object]: ...


@dataclass(frozen=True, slots=True)
class _Known:
    stored: StoredAccount
    account: Account | None


class AccountLoader:
    """One a process. `fixed`: the installation's own accounts, which stay as they are. `wake` is called for accounts that
    are new, take messages again or have gone: what waits for one of their channel and tenant is due."""

    def __init__(
        self,
        accounts: Accounts,
        fixed: Sequence[Account],
        *,
        repository: ProviderAccountRepository,
        maker: AccountMaker,
        wake: Wake,
    ) -> None:
        self._accounts = accounts
        self._fixed = tuple(fixed)
        self._repository = repository
        self._maker = maker
        self._wake = wake
        self._known: dict[str, _Known] = {}
        self._background: set[asyncio.Task[None]] = set()
        self.version = -1
        """The change that is in force here."""

    async def load(self) -> bool:
        """Take over what has changed; False where nothing has. Raises what the database raises."""
        if await self._repository.version() == self.version:
            return False
        version, rows = await self._repository.all()
        before = self._known
        self._known = {row.id: self._taken_over(row, before.get(row.id)) for row in rows}
        made = [known.account for known in self._known.values() if known.account is not None]
        self._accounts.replace([*self._fixed, *made])
        self.version = version
        self._follow_up(before)
        return True

    async def run_forever(self) -> None:
        """A database that is away is asked again; what was loaded goes on meanwhile."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if await self.load():
                    log.info("accounts.loaded", version=self.version, accounts=len(self._known))
            except Exception as error:
                if not is_away(error):
                    log.exception("accounts.not_loaded")

    async def settled(self) -> None:
        """Wait for what follows from the last changes: accounts that are closed, steps that are woken."""
        while self._background:
            await asyncio.wait(self._background)

    async def close(self) -> None:
        """Nothing is in flight any more: close every account that was made here."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for known in self._known.values():
            if known.account is not None:
                await known.account.provider.close()

    def _taken_over(self, row: StoredAccount, before: _Known | None) -> _Known:
        if before is None or before.account is None or _differs(row, before.stored):
            return _Known(row, self._maker.account(row))
        if row.version == before.stored.version:
            return before
        return _Known(row, self._maker.placed(before.account, row))

    def _follow_up(self, before: dict[str, _Known]) -> None:
        for account_id, old in before.items():
            new = self._known.get(account_id)
            if old.account is None:
                continue
            if new is None or new.account is None or new.account.provider is not old.account.provider:
                self._start(_drained(old.account))
            if old.account.stopped and (new is None or new.account is None or not new.account.stopped):
                self._start(self._woken(old.account))
        for account_id, added in self._known.items():
            if before and account_id not in before and added.account is not None and not added.account.stopped:
                self._start(self._woken(added.account))

    async def _woken(self, account: Account) -> None:
        """Called when this process already sends over the account again: if it did not, it would put the rows off once
        more. The last process to see the change wakes what the others have put off since."""
        try:
            await self._wake(account.channel, tenant=account.tenant)
        except Exception as error:  # what waits is looked at again by itself
            log.warning("accounts.not_woken", account=account.name, code=type(error).__name__)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _differs(row: StoredAccount, before: StoredAccount) -> bool:
    """Whether what its connections are made of differs."""
    return (row.provider, row.settings, row.sealed) != (before.provider, before.settings, before.sealed)


async def _drained(account: Account) -> None:
    """Close it when what is in flight over it has ended."""
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(account.slots.all_free(), DRAIN_MOST_S)
    finally:
        await account.provider.close()
