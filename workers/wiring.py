"""Everything a worker process is made of, wired by hand and closed in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import asyncpg
from temporalio.client import Client

from activities.accounts.account import Account, Accounts
from activities.accounts.making import AccountMaker, guarded_smtp
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from activities.cohorts.drive import EngineRepositories
from activities.delivery import DeliveryActivities
from activities.grouping import Starter, TemporalDriver
from activities.handing_over.codes import CodeMessages
from activities.handing_over.contents import TemplateContents
from activities.handing_over.losses import Losses
from activities.recording.patience import Outages
from activities.sweep import Sweep, SweepActivities, SweepRepositories
from channels.account_settings import AccountSettings
from channels.registry import BUILT_IN, Wiring, build, provider_types
from channels.webhook.standard import WebhookSettings
from domain.ids import uuid7
from infra.clock import SYSTEM_CLOCK
from infra.credentials import CredentialBox
from infra.email_accounts import INAPP_DEFAULT, WEBHOOK_DEFAULT, EmailAccount
from infra.http import HttpClient
from infra.otp_codes import OtpCodes
from infra.postgres.accept.otp import OtpRepository
from infra.postgres.database import Database
from infra.postgres.engine.admission import AdmissionRepository
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import CohortRepository
from infra.postgres.engine.digests import DigestRepository
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.parked import ParkedRepository
from infra.postgres.engine.permits import PermitRepository
from infra.postgres.engine.plans import PlanRepository
from infra.postgres.inbox.items import Inbox
from infra.postgres.partitions import PartitionRepository
from infra.postgres.tenants.account_health import AccountHealthRepository
from infra.postgres.tenants.provider_accounts import ProviderAccountRepository
from infra.rendering.catalog import TemplateCatalog
from infra.secrets import receipt_url, webhook_secret
from infra.settings import Settings
from infra.smtp import SmtpPool
from infra.ssrf import SsrfGuard
from workers.accounts import AccountLoader
from workers.heartbeat import Heartbeat

INAPP_CALLS = 4
"""In-app messages go to our own database, many in one call."""


@dataclass(frozen=True, slots=True)
class Wired:
    """What the worker process runs."""

    delivery: DeliveryActivities
    sweep: SweepActivities


@contextlib.asynccontextmanager
async def wired(
    settings: Settings, *, client: Client, stopping: Callable[[], bool], lanes: Sequence[str] = ()
) -> AsyncIterator[Wired]:
    """Open what the process needs; on the way out nothing is in flight any more and everything is closed. `lanes`: what the
    process says that it serves."""
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.open(settings, name="tongda-worker")
        stack.push_async_callback(database.close)
        pool, outages = database.pool, Outages()
        accounts = await _accounts(settings, database, stack, outages=outages, lanes=lanes)
        cohorts, claims, outcomes = CohortRepository(pool), ClaimRepository(pool), OutcomeRepository(pool)
        losses = Losses(claims, accounts, clock=SYSTEM_CLOCK, outages=outages)
        otp = OtpRepository(pool)
        codes = CodeMessages(otp, OtpCodes(settings.secret_key.get_secret_value(), others=settings.other_keys))
        driver = TemporalDriver(client)
        starter = Starter(cohorts, driver)
        starter.start()
        stack.push_async_callback(starter.stop)
        delivery = DeliveryActivities(
            EngineRepositories(cohorts, AdmissionRepository(pool), PlanRepository(pool), claims, outcomes),
            accounts=accounts,
            contents=TemplateContents(TemplateCatalog(database), codes=codes, digests=DigestRepository(pool)),
            stopping=stopping,
            poke=starter.poke,
            losses=losses,
        )
        sweep = Sweep(
            SweepRepositories.over(pool, partitions=_partitions(settings, pool)),
            driver=driver,
            accounts=accounts,
            poke=starter.poke,
            losses=losses,
        )
        yield Wired(delivery, SweepActivities(sweep))


def _partitions(settings: Settings, pool: asyncpg.Pool) -> PartitionRepository:
    """A repository that also drops old weeks; the API's only makes new ones."""
    days = settings.retention_days
    return PartitionRepository(pool, keep=timedelta(days=days) if days else None)


async def _accounts(
    settings: Settings, database: Database, stack: contextlib.AsyncExitStack, *, outages: Outages, lanes: Sequence[str]
) -> Accounts:
    """The installation's accounts, from the settings (for e-mail as many as are listed, one of each other channel), and the
    tenants', from the database, which are kept up with it."""
    http = HttpClient.from_settings(settings)
    stack.push_async_callback(http.close)
    secret_key, others = settings.secret_key.get_secret_value(), settings.other_keys
    wiring = Wiring(
        http=http,
        inbox=Inbox(database),
        secret_for=lambda tenant: webhook_secret(secret_key, tenant, others=others),
        receipt_url=lambda provider, account: receipt_url(
            secret_key, public_url=settings.public_url, provider=provider, account=account
        ),
    )
    leases, parked = PermitRepository(database.pool), ParkedRepository(database.pool)
    fixed = _installation(settings, wiring, leases=leases)
    accounts = Accounts(fixed)
    stack.push_async_callback(_closed, fixed)
    maker = AccountMaker(
        provider_types(),
        replace(wiring, smtp_for=guarded_smtp(SsrfGuard(allow_networks=settings.webhook_allow_networks))),
        box=CredentialBox(secret_key, others=others),
        leases=leases,
    )
    loader = AccountLoader(
        accounts,
        fixed,
        repository=ProviderAccountRepository(database.engine),
        maker=maker,
        wake=parked.wake,
    )
    await loader.load()
    stack.push_async_callback(loader.close)
    health = AccountHealthRepository(database.pool)
    heartbeat = Heartbeat(
        accounts, health, process=uuid7(), version=lambda: loader.version, lanes=lanes, outages=outages, wake=parked.wake
    )
    stack.push_async_callback(heartbeat.stop)
    await stack.enter_async_context(_running(loader.run_forever(), heartbeat.run_forever()))
    return accounts


def _installation(settings: Settings, wiring: Wiring, *, leases: PermitRepository) -> list[Account]:
    own = WebhookSettings(
        receipts=settings.webhook_receipts, receipt_window_seconds=settings.webhook_receipt_window_seconds
    )
    within = timedelta(seconds=settings.webhook_receipt_within_seconds) if own.receipts else None
    webhook = build("webhook", wiring.reporting(own, provider="webhook", account=WEBHOOK_DEFAULT), own, among=BUILT_IN)
    inapp = build("inapp", wiring, AccountSettings(), among=BUILT_IN)
    return [
        *[_mail_account(one, settings, wiring, leases=leases) for one in settings.mail_servers],
        Account(
            WEBHOOK_DEFAULT,
            webhook,
            Slots.for_many_servers(settings.webhook_concurrency),
            receipt_within=within or None,
        ),
        Account(INAPP_DEFAULT, inapp, Slots(INAPP_CALLS)),
    ]


def _mail_account(one: EmailAccount, settings: Settings, wiring: Wiring, *, leases: PermitRepository) -> Account:
    own = one.settings(sender=settings.smtp_from)
    provider = build("smtp", replace(wiring, smtp=SmtpPool.of(own)), own, among=BUILT_IN)
    rate = one.rate_per_second
    permits = None if rate is None else Permits(leases, account=one.name, rate_per_second=rate)
    return Account(
        one.name, provider, Slots(one.connections), order=one.order, cost=one.cost, weight=one.weight, permits=permits
    )


async def _closed(accounts: Sequence[Account]) -> None:
    for account in accounts:
        await account.provider.close()


@contextlib.asynccontextmanager
async def _running(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
