"""The children of one instance: what is started in which order, watched while it runs, and stopped in the other order."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.up import postgres, temporal
from cli.up.child import Child, ChildFailed, Command, run_step
from cli.up.environment import Environment
from cli.up.home import Home
from cli.up.launch import Launch, answers, launch
from cli.up.ports import LOOPBACK, Ports
from cli.up.postgres_folder import locate
from cli.up.screen import Screen
from cli.up.times import (
    API_STOP_S,
    CHILD_READY_S,
    MIGRATE_S,
    SANDBOX_STOP_S,
    WORKER_STOP_S,
)

CHECKOUT = Path(__file__).resolve().parents[2]
TENANT, APP = "main", "demo"
"""The first tenant and app."""
API_PORT, SANDBOX_HTTP_PORT, SANDBOX_SMTP_PORT, METRICS_PORT = 8080, 8025, 1025, 9464
WORKERS = {"workers-high": "high", "workers": "medium,low,housekeeping"}
"""Process name to its lanes: an OTP never waits behind a campaign's Python."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of a running instance is."""

    api_url: str
    temporal_address: str
    temporal_ui_url: str
    sandbox_url: str
    database_url: str
    key_file: str
    log_dir: str
    metrics_urls: Mapping[str, str]
    """Of each worker process, by its name."""
    own_mail: bool
    """E-mail goes to the operator's own server, so nobody here sees it arrive."""


class Service:
    """Start it once; stop it in any case. `died` is set to the failure of the first child that ends by itself."""

    def __init__(self, home: Home, *, environment: Environment, screen: Screen, hurry: asyncio.Event) -> None:
        self.died: asyncio.Future[ChildFailed] = asyncio.get_running_loop().create_future()
        self._home = home
        self._environment = environment
        self._screen = screen
        self._hurry = hurry
        self._ports = Ports()
        self._children: list[Child] = []
        self._metrics_urls: dict[str, str] = {}
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> Places:
        """Everything, up to ready. Raises ChildFailed, BadEnvironment, LookupError (what is missing)."""
        environment = self._environment
        environment.settle(HOME=str(self._home.path), KEY_FILE=str(self._home.key_file))
        if not environment.given("SECRET_KEY"):
            environment.fill(SECRET_KEY=self._home.secret_key())
        environment.fill(WEBHOOK_ALLOW_NETWORKS="127.0.0.0/8,::1/128")  # the sandbox, for webhooks and provider accounts
        await _together(self._start_postgres(), self._start_temporal())
        async with self._screen.step("applying migrations", done="database is up to date"):
            command = self._python("migrate", "infra.postgres.migrate")
            await run_step(command, within_s=MIGRATE_S)
        own_mail = environment.given("SMTP_HOST", "SMTP_PORT", "EMAIL_ACCOUNTS", "EMAIL_ACCOUNTS_FILE")
        async with self._screen.step("starting API, sandbox and workers", done="API, sandbox, workers"):
            await self._start_api()
            await self._start_sandbox(own_mail=own_mail)
            await _together(*(self._start_worker(name, lanes=lanes) for name, lanes in WORKERS.items()))
        return Places(
            api_url=environment["API_URL"],
            temporal_address=environment["TEMPORAL_ADDRESS"],
            temporal_ui_url=environment.get("TEMPORAL_UI_URL"),
            sandbox_url=environment["SANDBOX_URL"],
            database_url=environment["DATABASE_URL"],
            key_file=str(self._home.key_file),
            log_dir=str(self._home.logs),
            metrics_urls=dict(sorted(self._metrics_urls.items())),
            own_mail=own_mail,
        )

    def processes(self) -> dict[str, int]:
        return {"supervisor": os.getpid(), **{child.name: child.pid for child in self._children}}

    async def stop(self) -> None:
        """In order: API first, workers (they finish what they handed over), sandbox, Temporal, PostgreSQL."""
        for names in (("api",), tuple(WORKERS), ("sandbox",), ("temporal",), ("postgres",)):
            stage = [child for child in self._children if child.name in names]
            for child in stage:
                child.stopping = True
            await asyncio.gather(*(child.stop(hurry=self._hurry) for child in stage))
        for watch in self._watches:
            watch.cancel()

    async def _start_postgres(self) -> None:
        if self._environment.given("DATABASE_URL"):
            async with self._screen.step("connecting to your PostgreSQL", done="your PostgreSQL"):
                await postgres.check_own(self._environment["DATABASE_URL"])
            return
        async with self._screen.step("starting PostgreSQL", done="PostgreSQL"):
            folder = await asyncio.to_thread(locate, self._home.path)
            if folder.note:
                self._screen.warn(folder.note)
            log, instance = self._home.log("postgres"), self._environment["INSTANCE"]
            await postgres.initialise(folder, log=log, instance=instance)
            child, url = await postgres.start(folder, ports=self._ports, log=log, instance=instance, hurry=self._hurry)
            self._watch(child)
        self._environment.fill(DATABASE_URL=url)
        self._say_port("PostgreSQL", int(url.rpartition(":")[2].partition("/")[0]), preferred=postgres.PREFERRED_PORT)

    async def _start_temporal(self) -> None:
        if self._environment.given("TEMPORAL_ADDRESS"):
            await self._use_own_temporal()
            return
        async with self._screen.step("starting Temporal", done="Temporal with its Web UI"):
            child, address, ui_url = await temporal.start(
                self._home.temporal_database,
                ports=self._ports,
                log=self._home.log("temporal"),
                environment=self._environment.child(),
                hurry=self._hurry,
            )
            self._watch(child)
        self._environment.fill(TEMPORAL_ADDRESS=address, TEMPORAL_UI_URL=ui_url)
        self._say_port("Temporal", int(address.rpartition(":")[2]), preferred=temporal.PREFERRED_PORT)
        self._say_port("Temporal Web UI", int(ui_url.rpartition(":")[2]), preferred=temporal.PREFERRED_UI_PORT)

    async def _use_own_temporal(self) -> None:
        address = self._environment["TEMPORAL_ADDRESS"]
        async with self._screen.step(f"connecting to Temporal at {address}", done=f"Temporal at {address}"):
            from cli.up.own_temporal import prepare  # the SDK takes half a second to import, only here needed

            await prepare()

    async def _start_api(self) -> None:
        host = self._environment.get("API_HOST") or LOOPBACK

        def prepare(attempt: int) -> Launch:
            port = self._environment.port("API_PORT", API_PORT, ports=self._ports, attempt=attempt, host=host)
            url = f"http://{_reachable(host)}:{port}"
            self._environment.fill(PUBLIC_URL=url)
            command = self._python("api", "api", stop_s=API_STOP_S, API_PORT=port, API_HOST=host)
            return Launch(command, [port], lambda: answers(f"{url}/readyz"), CHILD_READY_S)

        port = await self._launch(prepare)
        # What others are told to reach this API by; the sandbox's pages use it.
        self._environment.fill(API_PORT=port)
        self._environment.settle(API_URL=f"http://{_reachable(host)}:{port}")
        self._say_port("API", port, preferred=API_PORT, name="API_PORT")

    async def _start_sandbox(self, *, own_mail: bool) -> None:
        from infra.secrets import webhook_secret

        environment = self._environment
        host = environment.get("SANDBOX_HOST") or LOOPBACK
        environment.fill(SANDBOX_HOST=host, WEBHOOK_SECRET=webhook_secret(environment["SECRET_KEY"], TENANT))

        def prepare(attempt: int) -> Launch:
            place: dict[str, Any] = {"ports": self._ports, "attempt": attempt, "host": host}
            http = environment.port("SANDBOX_HTTP_PORT", SANDBOX_HTTP_PORT, **place)
            smtp = environment.port("SANDBOX_SMTP_PORT", SANDBOX_SMTP_PORT, **place)
            command = self._python(
                "sandbox", "sandbox", stop_s=SANDBOX_STOP_S, SANDBOX_HTTP_PORT=http, SANDBOX_SMTP_PORT=smtp
            )
            return Launch(
                command, [http, smtp], lambda: answers(f"http://{_reachable(host)}:{http}/healthz"), CHILD_READY_S
            )

        http, smtp = await self._launch_all(prepare)
        environment.settle(SANDBOX_URL=f"http://{_reachable(host)}:{http}")
        if not own_mail:
            environment.fill(SMTP_HOST=_reachable(host), SMTP_PORT=smtp, SMTP_SECURITY="none")
        self._say_port("sandbox", http, preferred=SANDBOX_HTTP_PORT, name="SANDBOX_HTTP_PORT")
        self._say_port("sandbox SMTP", smtp, preferred=SANDBOX_SMTP_PORT, name="SANDBOX_SMTP_PORT")

    async def _start_worker(self, name: str, *, lanes: str) -> None:
        def prepare(attempt: int) -> Launch:
            port = self._ports.take(METRICS_PORT, again=attempt > 0)
            command = self._python(name, "workers", "--lanes", lanes, stop_s=WORKER_STOP_S, METRICS_PORT=port)
            return Launch(command, [port], lambda: answers(f"http://{LOOPBACK}:{port}/readyz"), CHILD_READY_S)

        self._metrics_urls[name] = f"http://{LOOPBACK}:{await self._launch(prepare)}/metrics"

    async def _launch(self, prepare: Callable[[int], Launch]) -> int:
        return (await self._launch_all(prepare))[0]

    async def _launch_all(self, prepare: Callable[[int], Launch]) -> Sequence[int]:
        child, launched = await launch(prepare, hurry=self._hurry)
        self._watch(child)
        return launched.ports

    def _python(self, name: str, module: str, *arguments: str, stop_s: float = 3.0, **own: Any) -> Command:
        return Command(
            name=name,
            arguments=[sys.executable, "-m", module, *arguments],
            log=self._home.log(name),
            environment=self._environment.child(**own),
            folder=CHECKOUT,
            stop_s=stop_s,
        )

    def _watch(self, child: Child) -> None:
        self._children.append(child)

        async def watch() -> None:
            await child.wait()
            if not child.stopping and not self.died.done():
                self.died.set_result(child.failure())

        self._watches.append(asyncio.create_task(watch()))

    def _say_port(self, what: str, port: int, *, preferred: int, name: str = "") -> None:
        if port != preferred and not (name and self._environment.given(name)):
            self._screen.warn(f"port {preferred} is taken: {what} listens on {port}")


def _reachable(host: str) -> str:
    return LOOPBACK if host in ("0.0.0.0", "::", "*") else host  # noqa: S104 - compared, not bound


async def _together(*starts: Coroutine[Any, Any, None]) -> None:
    """All at once; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
