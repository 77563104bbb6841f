"""Two Temporals: the SDK's time-skipping test server, and the service's own embedded one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from infra.postgres.database import HOT_STATEMENTS
from infra.temporal import runtime

TEST_SERVER = Path(sys.prefix) / "bin" / "temporal-test-server"


@pytest.fixture(scope="session")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """Timers pass in no time; nothing is downloaded."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(TEST_SERVER), runtime=runtime()
    ) as environment:  # fmt: skip
        yield environment


@pytest.fixture(scope="session")
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, runtime=runtime())


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    """A fresh database for each test: what one leaves behind must not be swept by the next."""
    opened = await asyncpg.create_pool(database, min_size=1, max_size=16, server_settings=HOT_STATEMENTS)
    yield opened
    await opened.close()
