"""What people see while it starts: a live line on a terminal, few plain lines in a log."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TextIO

from cli.up.times import BLINK_S, STILL_S

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_CLEAR = "\r\x1b[2K"


class Screen:
    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._going: dict[str, float] = {}
        self._blinking: asyncio.Task[None] | None = None

    def line(self, text: str = "") -> None:
        """One line, for good. A terminal that has gone away does not disturb an orderly end."""
        with suppress(OSError, ValueError):
            print(f"{_CLEAR if self._live else ''}{text}", file=self._out, flush=True)

    def warn(self, text: str) -> None:
        self.line(self.bold("! ") + text)

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._live else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._live else text

    @asynccontextmanager
    async def step(self, doing: str, *, done: str) -> AsyncIterator[None]:
        """Show that something goes on, and, when it has gone well, that it is done and how long it took."""
        started = self._going[doing] = time.monotonic()
        if self._blinking is None:
            self._blinking = asyncio.create_task(self._blink())
        try:
            yield
        finally:
            del self._going[doing]
            if not self._going:
                self._blinking.cancel()  # not awaited: that await could swallow a cancellation meant for us
                self._blinking = None
            self._raw(_CLEAR)
        self.line(f"{self.dim('ready')}  {done} {self.dim(f'({time.monotonic() - started:.1f} s)')}")

    async def _blink(self) -> None:
        for sign in itertools.cycle(_SPINNER):
            if self._live:
                self._raw(f"{_CLEAR}{sign}      {self._still()}")
                await asyncio.sleep(BLINK_S)
            else:
                await asyncio.sleep(STILL_S)
                self.line(f"...    {self._still()}")

    def _still(self) -> str:
        longest = time.monotonic() - min(self._going.values())
        return f"{', '.join(self._going)} ({longest:.0f} s)"

    def _raw(self, text: str) -> None:
        if self._live:
            with suppress(OSError, ValueError):
                self._out.write(text)
                self._out.flush()
