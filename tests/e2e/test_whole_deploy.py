"""Everything on one machine is replaced at once under load: `scripts/run` is told to stop and started again."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

import sandbox
from cli.up.ports import Ports
from sandbox.box import Box
from tests.e2e.checker import check
from tests.e2e.load import mixed, sending
from tests.e2e.parts import until
from tests.ports import lasting_port
from tests.up.running import STOP_S, Instance

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(500)]
IN_FLIGHT_WITHIN_S = 60.0


@dataclass
class Whole:
    """One `scripts/run`, and the receivers, which outlive it."""

    box: Box
    database_url: str

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.database_url)


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tongda-deploy-"))
    folder.chmod(0o711)  # PostgreSQL's plain user passes through
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


async def test_a_deploy_of_everything_leaves_no_unknown(home: Path) -> None:
    async with sandbox.running() as box:
        settings = {
            "TONGDA_API_PORT": str(lasting_port(Ports())),  # nobody else's service answers there meanwhile
            "TONGDA_SMTP_HOST": box.host,
            "TONGDA_SMTP_PORT": str(box.smtp_port),
            "TONGDA_SMTP_SECURITY": "none",
        }
        running = Instance(home, arguments=(), settings=settings)
        try:
            facts = await asyncio.to_thread(running.until_ready)
            key = (home / "api-key").read_text().strip()
            async with sending("deploy", urls=[facts["api_url"]], key=key) as sender:
                over, bodies = asyncio.Event(), mixed("deploy", 60, box_url=box.http_url)
                offering = asyncio.create_task(sender.offer(bodies, per_second=30, until=over))
                await until(lambda: box.record.count >= 60, within_s=IN_FLIGHT_WITHIN_S)
                running.signal(signal.SIGTERM)
                await until(lambda: sender.broken + sender.refused > 0, within_s=STOP_S)
                over.set()
                assert await asyncio.to_thread(running.wait, STOP_S) == 0, running.screen
                running = Instance(home, arguments=(), settings=settings)
                facts = await asyncio.to_thread(running.until_ready)
                await offering
                await check(sender, parts=Whole(box, facts["database_url"]), unknowns=False)
        finally:
            running.signal(signal.SIGTERM)
            await asyncio.to_thread(running.wait, STOP_S)
    assert running.left() == []
