"""`python -m workers --lanes high`: a worker process. SIGTERM: no new claim, finish what is in flight, end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import structlog
import uvloop
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.worker import Worker

from infra import garbage
from infra.postgres.patience import until_there
from infra.settings import Settings
from infra.settings_problems import problems_of
from infra.telemetry.logs import configure
from infra.temporal import connect
from workers.factory import make_worker
from workers.health import serving
from workers.roles import Role, parse
from workers.schedules import keep_synced, sync
from workers.wiring import wired

log = structlog.get_logger()

PORT_TAKEN = 98
CONNECT_AGAIN_S = 0.5
AUTOGROUP = Path("/proc/self/autogroup")
BACKGROUND_NICE = 10
"""The scheduler's scale: at 10 a process gets a tenth of what one at 0 gets, when both want the core."""


class Life:
    """Where this process is between start and end."""

    def __init__(self) -> None:
        self.ready = False
        self.stop = asyncio.Event()

    def stopping(self) -> bool:
        return self.stop.is_set()


async def run(settings: Settings, roles: Sequence[Role]) -> None:
    """Until SIGTERM or SIGINT. Raises OSError when the health port is taken or the database cannot be reached."""
    life, loop = Life(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.stop.set)
    lanes = ",".join(roles)
    log.info("worker.started", lanes=lanes, pid=os.getpid())
    async with serving(settings.metrics_port, host=settings.metrics_host, ready=lambda: life.ready):
        client = await _connected(settings, life)
        url = settings.database_url.get_secret_value()
        if client is None or not await until_there(url, stopping=life.stop):
            return
        async with contextlib.AsyncExitStack() as stack:
            process = await stack.enter_async_context(wired(settings, client=client, stopping=life.stopping, lanes=roles))
            if Role.HOUSEKEEPING in roles:
                await stack.enter_async_context(_syncing(client))
            workers = [make_worker(client, role, wired=process) for role in roles]
            garbage.set_for_serving()
            await _serve(workers, life, lanes=lanes)
    log.info("worker.stopped", lanes=lanes)


async def _connected(settings: Settings, life: Life) -> Client | None:
    """Waits for Temporal, however long it takes; None when this process is told to stop before."""
    told = False
    while not life.stopping():
        try:
            return await connect(settings)
        except RuntimeError as error:
            if not told:
                log.warning("temporal.waiting", address=settings.temporal_address, code=type(error).__name__)
                told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(life.stop.wait(), CONNECT_AGAIN_S)
    return None


@contextlib.asynccontextmanager
async def _syncing(client: Client) -> AsyncIterator[None]:
    await sync(client)
    task = asyncio.create_task(keep_synced(client))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _serve(workers: Sequence[Worker], life: Life, *, lanes: str) -> None:
    """Run all workers; when one ends, the process ends."""
    runs = [asyncio.create_task(worker.run()) for worker in workers]
    stop = asyncio.create_task(life.stop.wait())
    life.ready = True
    log.info("worker.ready", lanes=lanes)
    await asyncio.wait([*runs, stop], return_when=asyncio.FIRST_COMPLETED)
    life.ready = False
    log.info("worker.draining", lanes=lanes, asked=life.stopping())
    life.stop.set()
    await asyncio.gather(*(worker.shutdown() for worker in workers))
    await asyncio.gather(*runs)
    stop.cancel()


def step_back(roles: Sequence[Role]) -> None:
    """A process without the high lane lets the API and the high lane's workers go first, where they share cores.

    Linux weighs sessions first and processes within a session only then (`autogroup`, sched(7)), so a session that is all
    ours steps back as a whole."""
    if Role.HIGH in roles:
        return
    os.nice(BACKGROUND_NICE)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # another system, or one without it
            AUTOGROUP.write_text(str(BACKGROUND_NICE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 stopped as asked, 1 bad settings or a failure, 98 the health port is taken."""
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run Tongda's workers.")
    parser.add_argument("--lanes", default=",".join(Role), help=f"comma-separated: {', '.join(Role)} (default: all)")
    try:
        roles = parse(parser.parse_args(arguments).lanes)
        settings = Settings()
    except ValueError as error:  # pydantic's among them
        said = problems_of(error) if isinstance(error, ValidationError) else error
        print(f"tongda workers: {said}", file=sys.stderr)
        return 1
    if not settings.secret_key.get_secret_value():
        print("tongda workers: set TONGDA_SECRET_KEY (32 characters or more): webhooks are signed with it", file=sys.stderr)
        return 1
    configure(settings.log_level)
    step_back(roles)
    try:
        uvloop.run(run(settings, roles))
    except OSError as error:
        print(f"tongda workers: {error.strerror or error}", file=sys.stderr)
        return PORT_TAKEN if error.errno == errno.EADDRINUSE else 1
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"tongda workers: cannot open the database of TONGDA_DATABASE_URL: {type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the SDK can crash while the interpreter goes down: everything is closed, so leave at once
