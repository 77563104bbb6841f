"""A sandbox of its own for each test: it starts in milliseconds."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator

import aiohttp
import pytest

import sandbox

SECRET = "whsec_" + b64encode(b"a secret of the tests, 32 bytes!").decode()


@pytest.fixture
async def box() -> AsyncIterator[sandbox.Box]:
    """No secret, no API; the slow behaviours made quick."""
    async with sandbox.running(slow_s=0.3, hang_s=0.6) as box:
        yield box


@pytest.fixture
async def signed_box() -> AsyncIterator[sandbox.Box]:
    """Checks signatures."""
    async with sandbox.running(webhook_secret=SECRET, slow_s=0.3, hang_s=0.6) as box:
        yield box


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session
