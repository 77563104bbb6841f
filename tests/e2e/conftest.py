"""One running service for all faults that leave it whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.parts import Parts, running_parts


@pytest.fixture(scope="package")
async def parts() -> AsyncIterator[Parts]:
    """Everything is up before and after each test: who kills something starts it again."""
    async with running_parts(API_DRAIN_NOTICE_S="1") as made:
        yield made
