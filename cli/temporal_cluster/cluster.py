"""A Temporal cluster on this machine: PostgreSQL, one or more server processes, the Web UI; started, watched, stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from temporalio.client import Client

from cli.temporal_cluster import config, databases, usable
from cli.temporal_cluster.balancer import Balancer
from cli.temporal_cluster.binaries import Programs
from cli.temporal_cluster.config import Database, ServerPorts
from cli.up.child import Child, ChildFailed, Command
from cli.up.launch import Launch, answers, launch
from cli.up.ports import LOOPBACK, Ports, is_free
from cli.up.postgres_folder import write_private
from cli.up.service import CHECKOUT

PREFERRED_PORT: Final = 7233
PREFERRED_UI_PORT: Final = 8233
DYNAMIC_CONFIG: Final = CHECKOUT / "deploy" / "temporal" / "dynamic-config.yaml"
"""The settings that were measured; the ones of the embedded profile and of the containers."""
_READY_S = 120.0
_STOP_S = 30.0
_UI_STOP_S = 5.0
_T = TypeVar("_T")


class PortTaken(Exception):
    """A port that was asked for is taken; the text says which."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to start."""

    servers: int = 1
    web_ui: bool = True
    port: int = 0
    """Where clients connect; 0: near the usual one."""
    database_url: str = ""
    """A PostgreSQL of the operator's; empty: one of the cluster's own."""
    one_address: bool = True
    """With several servers: a balancer in front of them, in this process. False: clients are given the first frontend."""


class Cluster:
    """Start it once; stop it in any case. `died` is set when what is left is no cluster any more."""

    def __init__(
        self, home: Path, *, programs: Programs, ports: Ports | None = None, instance: str = "", say: Callable[[str], None]
    ) -> None:
        self.died: asyncio.Future[ChildFailed] = asyncio.get_running_loop().create_future()
        self.address = ""
        """host:port of the frontend, or of the balancer before several."""
        self.ui_url = ""
        self._home = home
        self._programs = programs
        self._ports = ports or Ports()
        self._instance = instance
        self._say = say
        self._children: list[Child] = []
        self._clients: dict[str, Client] = {}
        self._balancer: Balancer | None = None
        self._watches: list[asyncio.Task[None]] = []

    @property
    def servers(self) -> Sequence[Child]:
        """The server processes, `temporal-1` first; those that ended too."""
        return sorted((c for c in self._children if c.name.startswith("temporal-")), key=lambda c: c.name)

    def processes(self) -> dict[str, int]:
        """Name to process id."""
        return {child.name: child.pid for child in self._children}

    async def start(self, wanted: Wanted) -> None:
        """Everything, up to usable. Raises ChildFailed, LookupError, BadDatabase, PortTaken, TimeoutError, OSError."""
        balanced = wanted.servers > 1 and wanted.one_address
        first = self._first_port(wanted, balanced=balanced)
        for folder in ("logs", "temporal", "temporal/ui"):
            (self._home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        database = await self._database(wanted.database_url)
        self._say("bringing Temporal's databases to its schema")
        log = self._log("schema")
        await databases.bring_to_schema(database, programs=self._programs, log=log, instance=self._instance)
        self._say("starting Temporal")
        dynamic = self._home / "temporal" / "dynamic-config.yaml"
        dynamic.write_bytes(DYNAMIC_CONFIG.read_bytes())
        numbers = range(1, wanted.servers + 1)
        listening = await _together(
            [self._start_server(n, database, first=first + 1 if balanced else first) for n in numbers]
        )
        if balanced:
            self._balancer = Balancer(first, behind=[ports.calls["frontend"] for ports in listening])
            await self._balancer.start()
        self.address = f"{LOOPBACK}:{first}" if balanced else listening[0].address
        if wanted.port and self.address != f"{LOOPBACK}:{wanted.port}":
            raise _taken(wanted.port)
        await self._until_usable([ports.address for ports in listening])
        if wanted.web_ui:
            await self._start_ui()

    async def stop(self) -> None:
        """Clients' way in first, PostgreSQL last."""
        if self._balancer is not None:
            await self._balancer.stop()
        for name in ("web-ui", "temporal-", "postgres"):
            stage = [child for child in self._children if child.name.startswith(name)]
            for child in stage:
                child.stopping = True
            await asyncio.gather(*(child.stop() for child in stage))
        for watch in self._watches:
            watch.cancel()

    def _first_port(self, wanted: Wanted, *, balanced: bool) -> int:
        """Of the balancer, which keeps it, or the one to try first for the frontend. Raises PortTaken."""
        if wanted.port and not is_free(wanted.port):
            raise _taken(wanted.port)
        return wanted.port or (self._ports.take(PREFERRED_PORT) if balanced else PREFERRED_PORT)

    async def _database(self, url: str) -> Database:
        if url:
            self._say("connecting to your PostgreSQL")
            database = Database.of(url)
            await databases.check(database)
            return database
        self._say("starting PostgreSQL")
        child, database, note = await databases.start_postgres(
            self._home, ports=self._ports, log=self._log("postgres"), instance=self._instance
        )
        self._watch(child)
        if note:
            self._say(note)
        return database

    async def _start_server(self, number: int, database: Database, *, first: int) -> ServerPorts:
        name, tried = f"temporal-{number}", list[ServerPorts]()
        file = self._home / "temporal" / f"{name}.yaml"
        dynamic = self._home / "temporal" / "dynamic-config.yaml"

        def prepare(attempt: int) -> Launch:
            ports = config.choose_ports(self._ports, number=number, first=first, again=attempt > 0)
            tried.append(ports)
            # It holds the database's password.
            write_private(file, config.server(ports, database=database, dynamic_config=str(dynamic)))
            command = self._command(name, self._programs.server, "--config-file", str(file), "--allow-no-auth", "start")
            return Launch(command, ports.all, lambda: self._healthy(ports.address), _READY_S)

        child, _ = await launch(prepare)
        self._watch(child)
        return tried[-1]

    async def _client(self, address: str) -> Client:
        if address not in self._clients:
            self._clients[address] = await usable.connect(address)
        return self._clients[address]

    async def _healthy(self, address: str) -> bool:
        return await usable.healthy(await self._client(address))

    async def _until_usable(self, addresses: Sequence[str]) -> None:
        clients = [await self._client(address) for address in addresses]
        try:
            await usable.register(clients[0], within_s=_READY_S)
            await asyncio.gather(*(usable.until_usable(client, within_s=_READY_S) for client in clients))
        except TimeoutError:
            said = "Temporal serves, but not every server knows its namespace and search attributes"
            raise TimeoutError(f"{said} after {_READY_S:.0f} s; see {self._log('temporal-1')}") from None

    async def _start_ui(self) -> None:
        self._say("starting the Web UI")

        def prepare(attempt: int) -> Launch:
            port = self._ports.take(PREFERRED_UI_PORT, again=attempt > 0)
            text = config.web_ui(port=port, temporal_address=self.address)
            (self._home / "temporal" / "ui" / "tongda.yaml").write_text(text, encoding="utf-8")
            root = ["--root", str(self._home / "temporal"), "--config", "ui", "--env", "tongda"]
            command = self._command("web-ui", self._programs.web_ui, *root, "start", stop_s=_UI_STOP_S)
            return Launch(command, [port], lambda: answers(f"http://{LOOPBACK}:{port}/api/v1/namespaces"), _READY_S)

        child, launched = await launch(prepare)
        self._watch(child)
        self.ui_url = f"http://{LOOPBACK}:{launched.ports[0]}"

    def _command(self, name: str, program: Path, *arguments: str, stop_s: float = _STOP_S) -> Command:
        return Command(
            name=name,
            arguments=[str(program), *arguments],
            log=self._log(name),
            # Nothing of the caller's: TEMPORAL_* and others would configure these programs behind our back.
            environment={"PATH": os.environ.get("PATH", os.defpath), "TONGDA_INSTANCE": self._instance},
            folder=self._home,
            stop_s=stop_s,
        )

    def _log(self, name: str) -> Path:
        return self._home / "logs" / f"{name}.log"

    def _watch(self, child: Child) -> None:
        self._children.append(child)

        async def watch() -> None:
            await child.wait()
            if child.stopping:
                return
            self._say(f"{child.name} {child.ending()}; see {child.command.log}")
            alone = child.name == "postgres" or not any(server.running for server in self.servers)
            if alone and not self.died.done():
                self.died.set_result(child.failure())

        self._watches.append(asyncio.create_task(watch()))


def _taken(port: int) -> PortTaken:
    return PortTaken(f"port {port} is taken on {LOOPBACK}: name another with --port, or leave the choice to this script")


async def _together(starts: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """All at once; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(start) for start in starts]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


@asynccontextmanager
async def running(
    home: Path,
    wanted: Wanted,
    *,
    programs: Programs,
    ports: Ports | None = None,
    instance: str = "",
    say: Callable[[str], None],
) -> AsyncIterator[Cluster]:
    """A usable cluster; nothing of it is left running afterwards. Raises what `Cluster.start` does."""
    cluster = Cluster(home, programs=programs, ports=ports, instance=instance, say=say)
    try:
        await cluster.start(wanted)
        yield cluster
    finally:
        await cluster.stop()
