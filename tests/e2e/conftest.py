"""One running service for all faults that leave it whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.load import add_accounts, add_users
from tests.e2e.parts import APIS, Parts, running_parts


@pytest.fixture(scope="package")
async def parts() -> AsyncIterator[Parts]:
    """Everything is up before and after each test: who kills something starts it again."""
    async with running_parts(API_DRAIN_NOTICE_S="1") as made:
        url, box = made.url(APIS[0]), made.box
        await add_users(url, key=made.key, box_url=box.http_url)
        closed = made.port("nobody")
        await add_accounts(url, key=made.branch_key, host=box.host, port=box.smtp_port, closed=closed)
        yield made
