"""Several accounts of one channel over one database, and what they were given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from temporalio.testing import ActivityEnvironment

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from domain.results import SendResult
from domain.timeline import LeftFor
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.driving import activities, drive
from tests.engine.support import Engine

AFTER = '{"fallback_after": "PT60S"}'


class Provider(MemoryProvider):
    """One that reports delivery later."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(receipts=True, **rest)


@dataclass
class Fleet:
    """Accounts over one database, and a clock for their health."""

    engine: Engine
    accounts: Accounts
    now_s: float = 100.0
    cohort: CohortRow | None = field(default=None)

    @classmethod
    def of(cls, engine: Engine, *accounts: Account) -> Fleet:
        fleet = cls(engine, Accounts([], spread=lambda: 0.0))
        fleet.accounts = Accounts(accounts, clock=lambda: fleet.now_s, spread=lambda: 0.0)
        return fleet

    async def send(self, count: int = 1, **fields: Any) -> list[UUID]:
        """Accept and group."""
        ids = await self.engine.accepted(count, **fields)
        self.cohort = await self.engine.grouped()
        return ids

    async def drive(self) -> dict[str, float]:
        """One call of the activity; what waits."""
        assert self.cohort is not None
        parts = activities(self.engine, accounts=self.accounts)
        return (await ActivityEnvironment().run(parts.deliver, drive(self.cohort))).waits_s

    async def drive_what_waits(self) -> dict[str, float]:
        await self.engine.make_due()
        return await self.drive()

    def sent(self) -> dict[str, int]:
        """Account -> messages that it was given."""
        return {account.name: len(account.provider.sent) for account in self.accounts}  # type: ignore[attr-defined]


def account(name: str, *script: SendResult, provider: type[MemoryProvider] = MemoryProvider, **more: Any) -> Account:
    made = provider()
    made.script(*script)
    return Account(name, made, Slots(4), **more)


async def reasons(engine: Engine, notification_id: UUID) -> list[LeftFor]:
    """Why it went over another account, each time, by the published list."""
    told = "SELECT detail->>'reason' AS reason FROM event WHERE notification_id = $1 AND type = 'failover' ORDER BY at, id"
    found = await engine.pool.fetch(told, notification_id)
    return [LeftFor(one["reason"]) for one in found]
