"""Two Temporals: the SDK's time-skipping test server, and the service's own embedded one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

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
