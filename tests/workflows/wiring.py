"""The service's own workers over a real Temporal and a real database, with provider twins instead of the outside."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import asyncpg
from temporalio.client import Client

from activities.accounts.account import Accounts
from activities.delivery import DeliveryActivities
from activities.grouping import Starter, TemporalDriver
from activities.sweep import Sweep, SweepActivities, SweepRepositories
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.driving import activities
from tests.engine.support import Engine
from workers.factory import make_worker
from workers.roles import Role
from workers.wiring import Wired


@dataclass
class Service:
    """What a worker process is made of, within reach of a test."""

    engine: Engine
    driver: TemporalDriver
    starter: Starter
    sweep: Sweep

    async def start_all(self) -> list[CohortRow]:
        """Group what is due in every lane and start its workflows; the cohorts that were made."""
        made = []
        for role in (Role.HIGH, Role.MEDIUM, Role.LOW):
            assert role.lane is not None
            while (cohort := await self.engine.cohorts.group(role.lane)) is not None:
                assert await self.driver.start(cohort)
                made.append(cohort)
        return made


@contextlib.asynccontextmanager
async def serving(
    client: Client,
    pool: asyncpg.Pool,
    *,
    roles: tuple[Role, ...],
    accounts: Accounts | None = None,
    delivery: Any = None,
) -> AsyncIterator[Service]:
    """Workers of these roles; on the way out they have drained."""
    engine = Engine.over(pool)
    if accounts is not None:
        engine.accounts = accounts
    driver = TemporalDriver(client)
    starter = Starter(engine.cohorts, driver)
    sweep = Sweep(
        SweepRepositories.over(pool),
        driver=driver,
        accounts=engine.accounts,
        poke=starter.poke,
    )
    wired = Wired(
        delivery=cast("DeliveryActivities", delivery or activities(engine, poke=starter.poke)),
        sweep=SweepActivities(sweep),
    )
    async with contextlib.AsyncExitStack() as stack:
        for role in roles:
            await stack.enter_async_context(make_worker(client, role, wired=wired))
        yield Service(engine, driver, starter, sweep)
