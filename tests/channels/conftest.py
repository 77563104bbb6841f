from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop

from tests.channels.certificates import Certificate, make
from tests.channels.lean_http import LeanHttp, lean_http


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
