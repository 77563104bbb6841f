"""One life of the supervisor: start, first key, demo, wait, stop; whatever happens, it ends in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from cli.up.child import ChildFailed
from cli.up.demo import Demo, DemoFailed, Shown, key_works
from cli.up.environment import BadEnvironment, from_process
from cli.up.home import Home, HomeHeld
from cli.up.report import report
from cli.up.screen import Screen
from cli.up.service import APP, TENANT, Places, Service
from cli.up.temporal import TemporalNotReady
from cli.up.times import NOTICE_S

OK, FAILED = 0, 1
SIGNALLED = 128
"""Plus the signal's number: told to stop before the work was done."""
FAILURES = (ChildFailed, DemoFailed, BadEnvironment, TemporalNotReady, LookupError, OSError, httpx.HTTPError)
KEY_NAME = "first key"
KEY_ROLES = ("owner",)


class Ending:
    """The operator's wish to stop: the first signal asks for an orderly end, the next one for a quick one."""

    def __init__(self, signals: Sequence[signal.Signals]) -> None:
        self.wanted = asyncio.Event()
        self.hurry = asyncio.Event()
        self.signal = 0
        for number in signals:
            asyncio.get_running_loop().add_signal_handler(number, self._ask, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _ask(self, number: int) -> None:
        if self.wanted.is_set():
            self.hurry.set()
        self.signal = self.signal or number
        self.wanted.set()


async def run(*, once: bool, ending: Sequence[signal.Signals]) -> int:
    """The exit code: 0 = stopped as wanted (with `once`: all arrived), 1 = failed, 128 + n = signal n came too early."""
    screen, end = Screen(), Ending(ending)
    try:
        environment = from_process()
        environment.check()
        with Home(Path(environment.get("HOME") or ".tongda")) as home:
            service = Service(home, environment=environment, screen=screen, hurry=end.hurry)
            try:
                return await _live(home, service=service, screen=screen, end=end, once=once)
            except FAILURES as failure:
                screen.warn(str(failure))
                return FAILED
            finally:
                screen.line("stopping ...")
                await service.stop()
                screen.line("stopped; nothing is left running")
    except (BadEnvironment, HomeHeld, OSError) as failure:
        screen.warn(str(failure))
        return FAILED


async def _live(home: Home, *, service: Service, screen: Screen, end: Ending, once: bool) -> int:
    """Until told to stop, or `once` is done; the exit code. Raises what went wrong, a child's death included."""
    wanted = asyncio.create_task(end.wanted.wait())
    work = asyncio.create_task(_work(home, service=service, screen=screen, once=once))
    ends: set[asyncio.Future[Any]] = {wanted, service.died}
    await asyncio.wait({work, *ends}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
    elif work.exception() is not None:
        # What fails because a child died is told as that death, which may be noticed a moment later.
        await asyncio.wait(ends, timeout=NOTICE_S, return_when=asyncio.FIRST_COMPLETED)
    elif not once:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    wanted.cancel()
    finished = work.done() and not work.cancelled() and work.exception() is None
    if end.wanted.is_set():
        return work.result() if finished else SIGNALLED + end.signal
    if service.died.done():
        raise service.died.result()
    return work.result()


async def _work(home: Home, *, service: Service, screen: Screen, once: bool) -> int:
    """Start, make the first key, publish run.json, send the demo and show it; the exit code so far."""
    places = await service.start()
    await _have_key(home, places=places)
    home.publish({**_facts(places), "processes": service.processes()})
    async with screen.step("sending one notification over three channels", done="demo"):
        demo = Demo(
            api_url=places.api_url, sandbox_url=places.sandbox_url, key=home.api_key(), own_mail=places.own_mail,
            strict=once,
        )  # fmt: skip
        try:
            shown = await demo.run()
        except (DemoFailed, httpx.HTTPError) as failure:
            if once:
                raise
            shown = Shown(missing=[f"the demo: {failure or type(failure).__name__}"])
    report(screen, places=places, shown=shown, once=once)
    return FAILED if once and shown.missing else OK


async def _have_key(home: Home, *, places: Places) -> None:
    """Keep the key in the key file if the API takes it, else make a tenant, an app and a new one."""
    from infra.postgres.bootstrap import bootstrap

    if not await key_works(places.api_url, home.api_key()):
        key = await bootstrap(places.database_url, tenant=TENANT, app=APP, name=KEY_NAME, roles=KEY_ROLES)
        home.keep_api_key(key)


def _facts(places: Places) -> dict[str, object]:
    facts = asdict(places)
    del facts["own_mail"]
    return facts
