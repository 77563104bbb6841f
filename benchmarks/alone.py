"""A durable embedded PostgreSQL of its own, for what is measured without the service."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from cli.up import postgres
from cli.up.ports import Ports
from cli.up.postgres_folder import locate


@contextlib.asynccontextmanager
async def postgres_alone() -> AsyncIterator[str]:
    """Yields its URL; stops and removes it at the end."""
    folder = _folder()
    ports, place, log = Ports(), locate(folder, elsewhere=()), folder / "postgres.log"
    await postgres.initialise(place, log=log)
    child, url = await postgres.start(place, ports=ports, log=log, preferred_port=ports.any())
    try:
        yield url
    finally:
        await child.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    """A temporary folder that PostgreSQL's plain user can pass through."""
    made = Path(tempfile.mkdtemp(prefix="tongda-alone-"))
    made.chmod(0o711)
    return made


def cpu_ns(pid: int) -> int:
    """Time on a processor so far; takes Linux."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
