"""One child process: in a session of its own, tied to our life, logged to one file, stopped with its whole group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cli.up import leash
from cli.up.plain_user import PlainUser
from cli.up.times import KILLED_S, LOG_LINES, STEP_STOP_S

_KEPT_LOG_BYTES = 4 * 1024 * 1024


class ChildFailed(Exception):
    """A child ended that should not have, or ended badly. The text says which, how, and its last log lines."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, and how it wants to be ended."""

    name: str
    """Names the log file too."""
    arguments: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    folder: Path = field(default_factory=Path.cwd)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = STEP_STOP_S
    """Grace after `stop_signal` before the group is killed."""
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends when we die."""
    user: PlainUser | None = None
    """Another user to run as; needs root."""


class Child:
    """A running (or ended) child. Make one with `start`."""

    def __init__(self, command: Command, running: asyncio.subprocess.Process, *, log_from: int = 0) -> None:
        self.command = command
        self._log_from = log_from
        self.stopping = False
        """True from the moment it was asked to stop: its end is then no failure."""
        self._running = running

    @classmethod
    async def start(cls, command: Command) -> Child:
        """Start it. If we are cancelled meanwhile, nothing is left running."""
        user = command.user
        leashed = [
            sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(int(command.death_signal)),
            str(user.uid if user else -1), str(user.gid if user else -1), *command.arguments,
        ]  # fmt: skip
        with _open_log(command.log) as log:
            log_from = log.tell()
            running = await asyncio.create_subprocess_exec(
                *leashed,
                cwd=command.folder,
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(command, running, log_from=log_from)

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def running(self) -> bool:
        return self.returncode is None

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._running.returncode

    async def wait(self) -> int:
        """Until it ends; its exit code, negative for a signal."""
        return await self._running.wait()

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ask it to stop, wait its grace (no longer than until `hurry` is set), then kill what is left of its group."""
        self.stopping = True
        try:
            if self.running:
                self._signal(self.command.stop_signal)
                await self._wait_or_hurry(hurry)
        finally:
            self._kill_group()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), KILLED_S)

    async def _wait_or_hurry(self, hurry: asyncio.Event | None) -> None:
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self.wait())]
        if hurry is not None:
            waits.append(asyncio.create_task(hurry.wait()))
        try:
            await asyncio.wait(waits, timeout=self.command.stop_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(number)

    def _kill_group(self) -> None:
        # The group's number is the leader's pid and stays taken while a member lives, so this never meets a stranger.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def ending(self) -> str:
        """How it ended, for people: "ended with exit code 1", "was killed by SIGKILL"."""
        code = self.returncode
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def tail(self, lines: int = LOG_LINES) -> list[str]:
        """The last lines of its log, of this run only."""
        with contextlib.suppress(OSError), self.command.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._log_from)
            return [line.rstrip() for line in deque(log, maxlen=lines)]
        return []

    def failure(self) -> ChildFailed:
        """What to tell about its end. Of one that was killed from outside the log is no help: its last lines may be old."""
        if self.returncode == -signal.SIGKILL:
            return ChildFailed(
                f"{self.name} was killed from outside (signal 9: a person, or the kernel when memory ran out); its log "
                f"says nothing about it ({self.command.log})"
            )
        said = "".join(f"\n  | {line}" for line in self.tail())
        return ChildFailed(f"{self.name} {self.ending()}; the end of {self.command.log}:{said or ' (nothing)'}")


async def run_step(command: Command, *, within_s: float) -> None:
    """Run a one-shot child to its end. Raises ChildFailed if it fails or takes longer; leaves nothing when cancelled."""
    child = await Child.start(command)
    try:
        code = await asyncio.wait_for(child.wait(), within_s)
    except TimeoutError:
        raise ChildFailed(f"{child.name} took longer than {within_s:.0f} s; see {command.log}") from None
    finally:
        await child.stop()
    if code != 0:
        raise child.failure()


def _open_log(path: Path) -> BinaryIO:
    """The log file to append to; one that has grown is set aside first, so that logs stay bounded over many starts."""
    if path.exists() and path.stat().st_size > _KEPT_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")
