"""Everything a worker process is made of, wired by hand and closed in the opposite order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import asyncpg
from temporalio.client import Client

from activities.accounts import Account, Accounts, Slots
from activities.codes import CodeMessages
from activities.contents import TemplateContents
from activities.delivery import DeliveryActivities, EngineRepositories
from activities.grouping import Starter, TemporalDriver
from activities.permits import Permits
from activities.sweep import Sweep, SweepActivities, SweepRepositories
from channels.registry import Wiring, build, factories
from infra.email_accounts import EmailAccount
from infra.http import HttpClient
from infra.otp_codes import OtpCodes
from infra.postgres.accepting import AcceptRepository
from infra.postgres.database import Database
from infra.postgres.engine.caps import CapRepository
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import CohortRepository
from infra.postgres.engine.digests import DigestRepository
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.permits import PermitRepository
from infra.postgres.engine.plans import PlanRepository
from infra.postgres.engine.receiving import ReceiptRepository
from infra.postgres.inbox import Inbox
from infra.postgres.otp import OtpRepository
from infra.postgres.partitions import PartitionRepository
from infra.rendering.catalog import TemplateCatalog
from infra.secrets import receipt_path, webhook_secret
from infra.settings import WEBHOOK_ACCOUNT, Settings
from infra.smtp import SmtpPool

INAPP_CALLS = 4
"""In-app messages go to our own database, many in one call."""


@dataclass(frozen=True, slots=True)
class Wired:
    """What the worker process runs."""

    database: Database
    client: Client
    delivery: DeliveryActivities
    sweep: SweepActivities
    starter: Starter


@contextlib.asynccontextmanager
async def wired(settings: Settings, *, client: Client, stopping: Callable[[], bool]) -> AsyncIterator[Wired]:
    """Open what the process needs; on the way out nothing is in flight any more and everything is closed."""
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.open(settings, name="tongda-worker")
        stack.push_async_callback(database.close)
        accounts = await _accounts(settings, database, stack)
        pool = database.pool
        cohorts, claims, outcomes = CohortRepository(pool), ClaimRepository(pool), OutcomeRepository(pool)
        otp = OtpRepository(pool)
        codes = CodeMessages(otp, OtpCodes(settings.secret_key.get_secret_value()))
        driver = TemporalDriver(client)
        starter = Starter(cohorts, driver)
        starter.start()
        stack.push_async_callback(starter.stop)
        delivery = DeliveryActivities(
            EngineRepositories(cohorts, PlanRepository(pool), claims, outcomes),
            accounts=accounts,
            contents=TemplateContents(TemplateCatalog(database), codes=codes, digests=DigestRepository(pool)),
            stopping=stopping,
            poke=starter.poke,
        )
        sweep = Sweep(
            SweepRepositories(
                cohorts,
                claims,
                outcomes,
                _partitions(settings, pool),
                AcceptRepository(pool),
                CapRepository(pool),
                otp,
                ReceiptRepository(pool),
            ),
            driver=driver,
            accounts=accounts,
            poke=starter.poke,
        )
        yield Wired(database, client, delivery, SweepActivities(sweep), starter)


def _partitions(settings: Settings, pool: asyncpg.Pool) -> PartitionRepository:
    """The one that drops old weeks; the API's sweep only makes new ones."""
    days = settings.retention_days
    return PartitionRepository(pool, keep=timedelta(days=days) if days else None)


async def _accounts(settings: Settings, database: Database, stack: contextlib.AsyncExitStack) -> Accounts:
    """The accounts of the installation, from the settings: for e-mail as many as are listed, one of each other channel."""
    http = HttpClient.from_settings(settings)
    stack.push_async_callback(http.close)
    secret_key = settings.secret_key.get_secret_value()
    known = factories()
    wiring = Wiring(http=http, inbox=Inbox(database), secret_for=lambda tenant: webhook_secret(secret_key, tenant))
    leases = PermitRepository(database.pool)
    mail = [await _mail_account(one, settings, wiring, leases=leases, stack=stack) for one in settings.mail_servers]
    webhook = build("webhook", _reporting(settings, wiring, account=WEBHOOK_ACCOUNT), among=known)
    inapp = build("inapp", wiring, among=known)
    within = timedelta(seconds=settings.webhook_receipt_within_seconds) if settings.webhook_receipts else None
    return Accounts(
        [
            *mail,
            Account(WEBHOOK_ACCOUNT, webhook, Slots(settings.webhook_concurrency), receipt_within=within or None),
            Account("inapp-default", inapp, Slots(INAPP_CALLS)),
        ]
    )


def _reporting(settings: Settings, wiring: Wiring, *, account: str) -> Wiring:
    """The same, and where receivers report to."""
    if not settings.webhook_receipts:
        return wiring
    path = receipt_path(settings.secret_key.get_secret_value(), provider="webhook", account=account)
    window = timedelta(seconds=settings.webhook_receipt_window_seconds)
    return replace(wiring, reply_to=settings.public_url.rstrip("/") + path, receipt_window=window)


async def _mail_account(
    one: EmailAccount, settings: Settings, wiring: Wiring, *, leases: PermitRepository, stack: contextlib.AsyncExitStack
) -> Account:
    pool = SmtpPool.of(one)
    stack.push_async_callback(pool.close)
    provider = build("smtp", replace(wiring, smtp=pool, sender=one.sender or settings.smtp_from), among=factories())
    rate = one.rate_per_second
    permits = None if rate is None else Permits(leases, account=one.name, rate_per_second=rate)
    return Account(
        one.name, provider, Slots(one.connections), order=one.order, cost=one.cost, weight=one.weight, permits=permits
    )
