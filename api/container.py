"""Everything the API process is made of, wired by hand and closed in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

from fastapi import Request

from activities.erasing import Erasing
from activities.grouping import Starter, TemporalDriver
from activities.sweep import Sweep, SweepRepositories
from api.accept.batch import BatchService
from api.accept.changes import ChangeParts
from api.accept.collecting import Collector
from api.accept.otp import OtpService
from api.accept.recipients import Recipients
from api.accept.routing import CategoryRoutes
from api.accept.service import AcceptService
from api.accept.trials import TrialService
from api.inbox_parts import InboxParts, open_inbox
from api.keyring import KeyRing
from api.otp_parts import otp_service
from api.provider_parts import ProviderParts, open_providers
from api.recalls import RecallService
from api.receipts import ReceiptService, receipt_service
from channels.inapp.inbox import InboxProvider
from domain.channels import Channel
from domain.clock import Clock
from domain.ids import uuid7
from infra.clock import SYSTEM_CLOCK
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.collecting import CollectRepository
from infra.postgres.database import Database
from infra.postgres.engine.cancelling import CancelRepository
from infra.postgres.engine.cohorts import CohortRepository
from infra.postgres.engine.recalling import RecallRepository
from infra.postgres.engine.receiving import ReceiptRepository
from infra.postgres.inbox.items import Inbox
from infra.postgres.tenants.api_keys import ApiKeyRepository
from infra.postgres.tenants.categories import CategoryRepository
from infra.postgres.tenants.templates import TemplateRepository
from infra.postgres.users.erasing import ErasureRepository
from infra.postgres.users.persons import PersonRepository
from infra.postgres.users.recipients import RecipientRepository
from infra.rendering.catalog import TemplateCatalog
from infra.rendering.previews import TemplatePreviews
from infra.settings import Settings
from infra.temporal import connect

STATEMENT_S = 10.0
"""Callers wait for each statement of this process; a database that stands still is told to them as 503."""


@dataclass(slots=True)
class Container:
    """What routes use. Whoever adds a dependency adds a field here and opens it in `open_container`."""

    settings: Settings
    database: Database
    keys: KeyRing
    cancels: CancelRepository
    changes: ChangeParts
    recalls: RecallService
    catalog: TemplateCatalog
    accept: AcceptService
    batches: BatchService
    trials: TrialService
    clock: Clock
    otp: OtpService
    inbox: InboxParts
    receipts: ReceiptService
    erasing: Erasing
    providers: ProviderParts
    process: UUID = field(default_factory=uuid7)
    """Names this process towards the database."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as the process is told to stop, before requests are waited for: streams end themselves by it."""


@contextlib.asynccontextmanager
async def open_container(
    settings: Settings, *, clock: Clock = SYSTEM_CLOCK, stopping: asyncio.Event | None = None
) -> AsyncIterator[Container]:
    """Open it all; what is decided by time is decided by `clock`.

    Raises OSError or an asyncpg error when the database cannot be reached.
    """
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.open(settings, name="tongda-api", with_replica=True, limit_s=STATEMENT_S)
        stack.push_async_callback(database.close)
        catalog = TemplateCatalog(database, clock=clock)
        stopping = stopping or asyncio.Event()
        accept, batches = await stack.enter_async_context(
            _accepting(settings, database=database, catalog=catalog, clock=clock)
        )
        providers = await stack.enter_async_context(open_providers(settings, database=database))
        yield Container(
            settings=settings,
            database=database,
            keys=KeyRing(ApiKeyRepository(database), clock=clock),
            cancels=CancelRepository(database.pool),
            changes=ChangeParts.over(database.pool, accept=accept),
            recalls=RecallService(RecallRepository(database.pool), {Channel.INAPP: InboxProvider(Inbox(database))}),
            catalog=catalog,
            accept=accept,
            batches=batches,
            trials=_trials(database, accept=accept, catalog=catalog),
            clock=clock,
            inbox=await stack.enter_async_context(open_inbox(settings, database=database, stopping=stopping, clock=clock)),
            erasing=await stack.enter_async_context(_erasing(database)),
            providers=providers,
            receipts=receipt_service(
                settings,
                ReceiptRepository(database.pool),
                providers=providers,
                now=lambda: clock.now().timestamp(),
                due=accept.due,
            ),
            otp=otp_service(settings, database.pool, accept=accept),
            stopping=stopping,
        )


@contextlib.asynccontextmanager
async def _erasing(database: Database) -> AsyncIterator[Erasing]:
    erasing = Erasing(ErasureRepository(database))
    going_on = asyncio.create_task(erasing.run_forever(), name="erasing")
    try:
        yield erasing
    finally:
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)


@contextlib.asynccontextmanager
async def _accepting(
    settings: Settings, *, database: Database, catalog: TemplateCatalog, clock: Clock
) -> AsyncIterator[tuple[AcceptService, BatchService]]:
    """The accept path with its group start and its sweep. Temporal may be away: it is asked for when it is needed."""
    pool = database.pool
    driver = TemporalDriver(await connect(settings, lazy=True))
    starter = Starter(CohortRepository(pool), driver)
    accepting = AcceptRepository(pool)
    collector = Collector(CollectRepository(pool), accepting)
    service = AcceptService(
        accepting,
        recipients=Recipients(RecipientRepository(pool), clock=clock),
        catalog=catalog,
        routes=CategoryRoutes(CategoryRepository(database.engine), clock=clock),
        poke=starter.accepted,
        collector=collector,
        clock=clock,
    )
    starter.start()
    sweep = _sweep(database, driver=driver, starter=starter, clock=clock)
    sweeping = asyncio.create_task(sweep.run_forever(), name="sweep")
    try:
        yield service, BatchService(service, accepting, collector=collector)
    finally:
        await service.stop()
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await starter.stop()


def _sweep(database: Database, *, driver: TemporalDriver, starter: Starter, clock: Clock) -> Sweep:
    repositories = SweepRepositories.over(database.pool)
    return Sweep(repositories, driver=driver, accounts=None, poke=starter.poke, clock=clock)


def _trials(database: Database, *, accept: AcceptService, catalog: TemplateCatalog) -> TrialService:
    return TrialService(
        accept,
        previews=TemplatePreviews(TemplateRepository(database.engine), catalog=catalog),
        persons=PersonRepository(database.engine),
        kept=AcceptRepository(database.pool),
    )


def container_of(request: Request) -> Container:
    """FastAPI dependency: the container of this app."""
    container: Container = request.app.state.container
    return container
