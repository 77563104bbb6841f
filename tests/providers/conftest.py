"""The real API, a worker's accounts over the same database, and mail servers that ask for a password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from temporalio.testing import ActivityEnvironment

import sandbox
from activities.accounts.account import Account, Accounts
from activities.accounts.making import AccountMaker, guarded_smtp
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from channels.registry import Wiring, provider_types
from infra.credentials import CredentialBox
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.parked import ParkedRepository
from infra.postgres.engine.permits import PermitRepository
from infra.postgres.tenants.provider_accounts import ProviderAccountRepository
from infra.ssrf import SsrfGuard
from tests.api.conftest import Api, make_keys, running
from tests.engine.driving import activities, drive
from tests.engine.support import Engine
from workers.accounts import AccountLoader

USERNAME, PASSWORD = "tongda", "correct-horse-battery"
LOOPBACK = ("127.0.0.0/8",)


@pytest.fixture
async def api(database: str) -> AsyncIterator[Api]:
    """As in the embedded profile: accounts may point to this machine."""
    async with running(database, webhook_allow_networks=LOOPBACK) as made:
        made.keys = await make_keys(database)
        yield made


@pytest.fixture
async def box() -> AsyncIterator[sandbox.Box]:
    async with sandbox.running(smtp_username=USERNAME, smtp_password=PASSWORD, slow_s=0.3, hang_s=0.6) as made:
        yield made


@pytest.fixture
async def second() -> AsyncIterator[sandbox.Box]:
    async with sandbox.running(smtp_username=USERNAME, smtp_password=PASSWORD) as made:
        yield made


def settings_of(box: sandbox.Box, **changes: Any) -> dict[str, Any]:
    return {
        "host": box.host, "port": box.smtp_port, "security": "none", "username": USERNAME, "password": PASSWORD,
        "sender": "Acme <notify@acme.example>", **changes,
    }  # fmt: skip


async def make(api: Api, box: sandbox.Box, *, name: str = "relay", key: str = "operator", **fields: Any) -> str:
    """An account by the API; its id."""
    settings = settings_of(box, **fields.pop("settings", {}))
    made = await api.post("/v1/providers", {"name": name, "provider": "smtp", "settings": settings, **fields}, key=key)
    assert made.status_code == 201, made.text
    found: str = made.json()["id"]
    return found


async def changed(api: Api, account: str, body: dict[str, Any], **rest: Any) -> httpx.Response:
    return await api.call("PATCH", f"/v1/providers/{account}", json=body, **rest)


@dataclass
class Worker:
    """What a worker process does with accounts, step by step."""

    engine: Engine
    accounts: Accounts
    loader: AccountLoader
    installation: MemoryProvider
    cohort: CohortRow | None = field(default=None)

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

    async def sent(self, count: int = 1, **fields: Any) -> list[UUID]:
        ids = await self.send(count, **fields)
        await self.drive()
        return ids

    async def go_on(self) -> None:
        """A new cohort takes up what is due, whichever had it."""
        await self.engine.pool.execute("UPDATE work SET cohort = NULL")
        await self.engine.pool.execute("DELETE FROM cohort")
        self.cohort = await self.engine.grouped()
        await self.drive()

    async def woken(self) -> None:
        """What was put off has been made due."""
        await self.loader.settled()
        await self.go_on()

    async def account_of(self, notification: UUID) -> str | None:
        found: str | None = await self.engine.pool.fetchval(
            "SELECT account FROM delivery WHERE notification_id = $1", notification
        )
        return found


@pytest.fixture
async def worker(api: Api) -> AsyncIterator[Worker]:
    """Beside the tenants' accounts one of the installation, which remembers."""
    pool, settings = api.pool, api.container.settings
    installation = MemoryProvider()
    fixed = [Account("smtp-default", installation, Slots(4))]
    accounts = Accounts(fixed, spread=lambda: 0.0)
    maker = AccountMaker(
        provider_types(),
        Wiring(smtp_for=guarded_smtp(SsrfGuard(allow_networks=LOOPBACK))),
        box=CredentialBox(settings.secret_key.get_secret_value()),
        leases=PermitRepository(pool),
    )
    repository = ProviderAccountRepository(api.container.database.engine)
    loader = AccountLoader(accounts, fixed, repository=repository, maker=maker, wake=ParkedRepository(pool).wake)
    await loader.load()
    engine = Engine.over(pool)
    engine.accounts = accounts
    yield Worker(engine, accounts, loader, installation)
    await loader.close()


def mails(box: sandbox.Box) -> list[str]:
    """Recipients of the messages that this server took, oldest first."""
    items, _ = box.record.find()
    return [item.seen.recipient for item in reversed(items) if item.seen.taken]
