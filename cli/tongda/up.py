"""`up`: becomes the supervisor that `scripts/run` starts."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli.tongda.place import CHECKOUT, home


def up(
    *, once: Annotated[bool, typer.Option("--once", help="Send one notification, check that it arrived, and stop.")] = False
) -> None:
    """Start the whole service on this machine, as ./scripts/run does. Ctrl-C stops it."""
    environment = {**os.environ, "TONGDA_HOME": str(home(os.environ))}
    arguments = [sys.executable, "-m", "cli.up", *(["--once"] if once else [])]
    os.chdir(CHECKOUT)
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - becoming it hands on signals and the exit code
