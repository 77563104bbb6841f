from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop

from infra.smtp import SmtpPool
from tests.channels.certificates import Certificate, make
from tests.channels.lean_http import LeanHttp, lean_http
from tests.channels.lean_smtp import Lean, lean_smtp
from tests.channels.smtp_calls import pool_for


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session", params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Both event loops, for what lies close to transports: workers run on uvloop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as one:
        yield one


@pytest.fixture
async def web() -> AsyncIterator[LeanHttp]:
    """A small web server that answers as it is told."""
    async with lean_http() as server:
        yield server


@pytest.fixture(params=[False, True], ids=["plain", "pipelining"])
async def lean(request: pytest.FixtureRequest) -> AsyncIterator[Lean]:
    """A small mail server that answers as it is told."""
    async with lean_smtp(pipelining=request.param) as server:
        yield server


@pytest.fixture
async def pool(lean: Lean) -> AsyncIterator[SmtpPool]:
    made = pool_for(lean)
    yield made
    await made.close()
