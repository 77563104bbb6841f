"""The service as its parts, each a real process that can be killed, stopped, frozen and started again where it was.

`scripts/run` ends as a whole when one of its children dies; an installation of several machines does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

import sandbox
from cli.up import postgres, temporal
from cli.up.child import Child, Command, run_step
from cli.up.launch import answers
from cli.up.ports import LOOPBACK, Ports
from cli.up.postgres_folder import PostgresFolder, locate
from cli.up.service import CHECKOUT
from infra.postgres.bootstrap import bootstrap
from sandbox.box import Box
from tests.e2e.load import add_accounts, add_users
from tests.ports import lasting_port
from tests.up.processes import gone

READY_S = 90.0
DRAIN_S = 45.0
"""What operators are told to give a worker."""
DURABLE = {**postgres.DURABLE, "shared_buffers": "128MB", "fsync": "off"}
"""Survives the death of every process, which is all that happens here; not a power cut."""
APIS = ("api-0", "api-1")
WORKERS = {"workers-high": "high", "workers": "medium,low,housekeeping"}
MORE_WORKERS = {"workers-high-2": "high"}
"""Started only by the test that wants them."""


class SamePorts(Ports):
    """A server that comes back listens where it did before."""

    def take(self, preferred: int, *, again: bool = False) -> int:
        del again
        return preferred


@dataclass
class Parts:
    """All of them. `children` holds those that run or ran."""

    home: Path
    box: Box
    folder: PostgresFolder
    database_url: str = ""
    temporal_address: str = ""
    key: str = ""
    branch_key: str = ""
    """Of another tenant."""
    mark: str = field(default_factory=lambda: str(uuid.uuid4()))
    settings: dict[str, str] = field(default_factory=dict)
    preloads: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """Environment that a part of ours gets besides, by its name."""
    children: dict[str, Child] = field(default_factory=dict)
    _free: Ports = field(default_factory=Ports)
    _ports: dict[str, int] = field(default_factory=dict)

    @property
    def urls(self) -> list[str]:
        return [self.url(name) for name in APIS]

    @property
    def _temporal_file(self) -> Path:
        return self.home / "temporal.db"

    def forget_workflows(self) -> None:
        """Delete Temporal's database; it must not run."""
        for part in ("", "-wal", "-shm"):
            Path(f"{self._temporal_file}{part}").unlink(missing_ok=True)

    def url(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.port(name)}"

    def port(self, name: str) -> int:
        """The same one each time."""
        if name not in self._ports:
            self._ports[name] = lasting_port(self._free)
        return self._ports[name]

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text(encoding="utf-8", errors="replace")

    async def start(self, *names: str) -> None:
        """Each until it is ready."""
        await asyncio.gather(*(self._start(name) for name in names))

    async def launch(self, name: str) -> None:
        """Without waiting until it is ready."""
        self.children[name] = await Child.start(self._command(name))

    async def stop(self, *names: str) -> None:
        """SIGTERM and its grace, one after another. The end must be an orderly one."""
        for name in names:
            child = self.children[name]
            await child.stop()
            assert child.returncode == 0, f"{name} {child.ending()}: {child.tail()}"

    async def kill(self, name: str) -> None:
        """SIGKILL, as the kernel does when memory is short."""
        child = self.children[name]
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()

    def send(self, name: str, number: signal.Signals) -> None:
        """To the process and its children: PostgreSQL's sessions are processes of their own."""
        pids = [self.children[name].pid, *_children_of(self.children[name].pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def until_ready(self, name: str) -> None:
        child = self.children[name]
        async with asyncio.timeout(READY_S):
            while not await answers(f"{self.url(name)}/readyz"):
                assert child.running, f"{name} {child.ending()}: {child.tail()}"
                await asyncio.sleep(0.05)

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.database_url)

    async def close(self) -> None:
        """Everything, in the order in which operators are told to."""
        for names in (APIS, (*WORKERS, *MORE_WORKERS), ("temporal",), ("postgres",)):
            for name in names:
                if name in self.children and self.children[name].running:
                    self.send(name, signal.SIGCONT)
            await asyncio.gather(*(self.children[n].stop() for n in names if n in self.children))

    async def _start(self, name: str) -> None:
        if name == "postgres":
            await self._start_postgres()
        elif name == "temporal":
            child, self.temporal_address, _ = await temporal.start(
                self._temporal_file,
                ports=SamePorts(),
                log=self.log(name),
                environment=temporal.server_environment(self.mark),
                preferred_port=self.port(name),
                preferred_ui_port=self.port("temporal-ui"),
            )
            self.children[name] = child
        else:
            await self.launch(name)
            await self.until_ready(name)

    async def _start_postgres(self) -> None:
        self.children["postgres"], self.database_url = await postgres.start(
            self.folder,
            ports=SamePorts(),
            log=self.log("postgres"),
            settings=DURABLE,
            instance=self.mark,
            preferred_port=self.port("postgres"),
        )

    async def migrate(self) -> None:
        await run_step(self._python("migrate", "infra.postgres.migrate"), within_s=READY_S)
        self.key = await bootstrap(self.database_url, tenant="main", app="shop", name="faults", roles=["owner"])
        self.branch_key = await bootstrap(self.database_url, tenant="branch", app="shop", name="faults", roles=["owner"])

    async def serve(self) -> None:
        """Start what serves, and make whom and what `load` names: users, and the accounts of the other tenant."""
        await self.start(*APIS, *WORKERS)
        url = self.url(APIS[0])
        await add_users(url, key=self.key, box_url=self.box.http_url)
        host, port = self.box.host, self.box.smtp_port
        await add_accounts(url, key=self.branch_key, host=host, port=port, closed=self.port("nobody"))

    def _command(self, name: str) -> Command:
        if name in APIS:
            return self._python(name, "api", stop_s=15.0, API_PORT=self.port(name))
        return self._python(
            name, "workers", "--lanes", {**WORKERS, **MORE_WORKERS}[name], stop_s=DRAIN_S, METRICS_PORT=self.port(name)
        )

    def environment(self, **own: Any) -> dict[str, str]:
        """What a process of ours is given; `own` and the others without their prefix."""
        settings = {
            "DATABASE_URL": self.database_url or self._database_to_be(), "INSTANCE": self.mark, "SECRET_KEY": "x" * 32,
            "TEMPORAL_ADDRESS": f"{LOOPBACK}:{self.port('temporal')}", "SMTP_HOST": self.box.host,
            "SMTP_PORT": self.box.smtp_port, "SMTP_SECURITY": "none", "WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
            **self.settings, **own,
        }  # fmt: skip
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TONGDA_")}
        return {**inherited, **{f"TONGDA_{key}": str(value) for key, value in settings.items()}}

    def _python(self, name: str, module: str, *arguments: str, stop_s: float = 5.0, **own: Any) -> Command:
        return Command(
            name=name,
            arguments=[sys.executable, "-m", module, *arguments],
            log=self.log(name),
            environment={**self.environment(**own), **self.preloads.get(name, {})},
            folder=CHECKOUT,
            stop_s=stop_s,
        )

    def _database_to_be(self) -> str:
        return (
            f"postgresql://{postgres.USER}:{self.folder.password()}@{LOOPBACK}:{self.port('postgres')}/{postgres.DATABASE}"
        )


async def until(so: Callable[[], bool], *, within_s: float) -> None:
    """Raises TimeoutError if it does not become so."""
    async with asyncio.timeout(within_s):
        while not so():  # noqa: ASYNC110 - whoever changes it does not know of us
            await asyncio.sleep(0.1)


def _children_of(pid: int) -> Sequence[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _new_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="tongda-parts-"))
    home.chmod(0o711)  # PostgreSQL's plain user passes through
    return home


@contextlib.asynccontextmanager
async def new_parts(**settings: str) -> AsyncIterator[Parts]:
    """Nothing is started yet but the sandbox, in this process, so that its record can be read. Leaves nothing."""
    home = _new_home()
    async with sandbox.running() as box:
        folder = locate(home, elsewhere=())
        await postgres.initialise(folder, log=home / "postgres.log", durable=False)
        made = Parts(home, box, folder, settings=settings)
        try:
            yield made
        finally:
            await made.close()
            left = gone(made.mark, home=home, within_s=5)
            shutil.rmtree(home, ignore_errors=True)
            assert left == []


@contextlib.asynccontextmanager
async def running_parts(**settings: str) -> AsyncIterator[Parts]:
    """Everything is up: two API processes, and workers for the high lane and for the rest."""
    async with new_parts(**settings) as made:
        await made.start("postgres", "temporal")
        await made.migrate()
        await made.serve()
        yield made
