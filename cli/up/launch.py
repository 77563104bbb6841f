"""Starting a server until it is ready: a port lost between probe and bind is another try, anything else a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

from cli.up.child import Child, ChildFailed, Command
from cli.up.ports import is_free, listens
from cli.up.times import POLL_S, REQUEST_S, START_ATTEMPTS, START_PAUSE_S

_PORT_TAKEN = 98
"""Exit code of our own processes that cannot have their port (EADDRINUSE on Linux)."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One try: the command, the ports it is to listen on, and how to see that it is ready."""

    command: Command
    ports: Sequence[int]
    ready: Callable[[], Awaitable[bool]]
    within_s: float


async def launch(prepare: Callable[[int], Launch], *, hurry: asyncio.Event | None = None) -> tuple[Child, Launch]:
    """Start what `prepare(attempt)` gives and wait until it is ready and itself listens on its ports.

    `prepare` is asked anew, with the next number, when the last try found something in use, so that it takes other ports.
    Raises ChildFailed; leaves nothing running when it fails or is cancelled (`hurry` set: without the child's grace).
    """
    for attempt in range(START_ATTEMPTS):
        this = prepare(attempt)
        child = await Child.start(this.command)
        try:
            await _until_ready(child, this)
        except ChildFailed:
            await child.stop(hurry=hurry)
            if attempt == START_ATTEMPTS - 1 or not _found_in_use(child, this):
                raise
        except BaseException:
            await child.stop(hurry=hurry)
            raise
        else:
            return child, this
        await asyncio.sleep(START_PAUSE_S)
    raise AssertionError("unreachable")


async def _until_ready(child: Child, this: Launch) -> None:
    deadline = time.monotonic() + this.within_s
    while time.monotonic() < deadline:
        if not child.running:
            raise child.failure()
        if await this.ready() and all(listens(child.pid, port) for port in this.ports):
            return
        await asyncio.sleep(POLL_S)
    raise ChildFailed(f"{child.name} was not ready within {this.within_s:.0f} s; see {this.command.log}")


def _found_in_use(child: Child, this: Launch) -> bool:
    # "address already in use"; PostgreSQL's "pre-existing shared memory block is still in use" after a kill.
    if child.returncode == _PORT_TAKEN:
        return True
    return any("in use" in line for line in child.tail()) or not all(is_free(port) for port in this.ports)


async def answers(url: str) -> bool:
    """True if GET `url` is 200."""
    try:
        async with httpx.AsyncClient(timeout=REQUEST_S, trust_env=False) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
