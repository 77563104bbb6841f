"""Instances started as a user does, with a mark by which whatever they leave is found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.up import leash
from cli.up.service import CHECKOUT
from tests.up.processes import gone

START_S = 120.0
STOP_S = 60.0
LEFT_S = 5.0
"""The kernel and `init` need a moment to clear away what was killed."""


_TIED = (sys.executable, "-I", "-S", leash.__file__)
"""It is told to stop when the tests end, however they end."""


@dataclass
class Instance:
    """One `scripts/run`; its screen goes to a file in `home`'s parent."""

    home: Path
    arguments: tuple[str, ...] = ("--once",)
    mark: str = field(default_factory=lambda: str(uuid.uuid4()))
    settings: Mapping[str, str] = field(default_factory=dict)
    """`TONGDA_*` settings that the operator gives."""

    def __post_init__(self) -> None:
        self._screen = self.home.with_name(f"{self.home.name}.screen")
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("TONGDA_")}
        with self._screen.open("wb") as screen:
            self.process = subprocess.Popen(
                [
                    *_TIED,
                    str(os.getpid()),
                    str(int(signal.SIGTERM)),
                    "-1",
                    "-1",
                    CHECKOUT / "scripts" / "run",
                    *self.arguments,
                ],
                env={**inherited, "TONGDA_HOME": str(self.home), "TONGDA_INSTANCE": self.mark, **self.settings},
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def screen(self) -> str:
        return self._screen.read_text(encoding="utf-8", errors="replace")

    def wait(self, within_s: float = START_S + STOP_S) -> int:
        return self.process.wait(within_s)

    def signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def until_ready(self) -> dict[str, Any]:
        """What run.json says."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                facts = json.loads((self.home / "run.json").read_text())
            except FileNotFoundError:
                time.sleep(0.1)
                continue
            assert isinstance(facts, dict)
            return facts
        raise AssertionError(f"not ready:\n{self.screen}")

    def left(self, within_s: float = LEFT_S) -> list[str]:
        """Its processes that are still there."""
        return gone(self.mark, home=self.home, within_s=within_s)
