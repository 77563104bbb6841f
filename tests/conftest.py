"""Real servers for every test that wants them: each is started once in a session, on a free port, and leaves nothing.

- `postgres_url`: an embedded PostgreSQL (fsync off).
- `database`: the URL of a fresh, migrated database of one test; `module_database`: of one module.
- `temporal_address`: an embedded Temporal with the service's own settings and search attributes.
- `cassandra`: settings that reach a real Cassandra; skipped where Java 17 or Maven is missing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from cli.up import postgres, temporal
from cli.up.ports import Ports
from cli.up.postgres_folder import locate
from infra.clock import ManualClock
from infra.settings import Settings
from tests import cassandra_server

_TEMPLATE = "tongda_template"
_made = 0


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's plain user can pass through; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="tongda-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_ports() -> Ports:
    return Ports()


@pytest.fixture(scope="session")
async def postgres_url(servers_folder: Path, server_ports: Ports) -> AsyncIterator[str]:
    """The URL of an empty database of an embedded PostgreSQL; others can be created beside it."""
    folder = locate(servers_folder, elsewhere=())
    log = servers_folder / "postgres.log"
    await postgres.initialise(folder, log=log, durable=False)
    child, url = await postgres.start(
        folder, ports=server_ports, log=log, settings=postgres.THROWAWAY, preferred_port=server_ports.any()
    )
    yield url
    await child.stop()


@pytest.fixture(scope="session")
async def _template(postgres_url: str) -> str:
    """The name of a migrated database to clone."""
    # Imported here, so that tests without a database do not pay for it.
    from infra.postgres.migrate import migrate

    await _administer(postgres_url, f"CREATE DATABASE {_TEMPLATE}")
    await migrate(_sibling(postgres_url, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture
async def database(postgres_url: str, _template: str) -> AsyncIterator[str]:
    async with _clone(postgres_url, _template) as url:
        yield url


@pytest.fixture
def clock() -> ManualClock:
    """A process's clock, which the test moves."""
    return ManualClock()


@pytest.fixture(scope="module")
async def module_database(postgres_url: str, _template: str) -> AsyncIterator[str]:
    async with _clone(postgres_url, _template) as url:
        yield url


@pytest.fixture(scope="session")
async def temporal_address(servers_folder: Path, server_ports: Ports) -> AsyncIterator[str]:
    """host:port of an embedded Temporal server; namespace `default`."""
    child, address, _ = await temporal.start(
        servers_folder / "temporal.db",
        ports=server_ports,
        log=servers_folder / "temporal.log",
        environment=temporal.server_environment(),
        preferred_port=server_ports.any(),
        preferred_ui_port=server_ports.any(),
    )
    yield address
    await child.stop()


@pytest.fixture(scope="session")
async def cassandra(servers_folder: Path, server_ports: Ports) -> AsyncIterator[Settings]:
    async with cassandra_server.running(servers_folder / "cassandra", ports=server_ports) as settings:
        yield settings


@asynccontextmanager
async def _clone(postgres_url: str, template: str) -> AsyncIterator[str]:
    global _made
    _made += 1
    name = f"tongda_test_{_made}"
    await _administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _sibling(postgres_url, name)
    await _administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _sibling(url: str, name: str) -> str:
    return url.rpartition("/")[0] + "/" + name
