"""What is left of an instance: every process that carries its mark, and every PostgreSQL that lives in its folder."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def of_instance(mark: str, *, home: Path) -> list[str]:
    """Processes of the instance, "pid command". PostgreSQL overwrites its environment, but stays in its data folder."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            process = Path("/proc") / entry
            marked = f"TONGDA_INSTANCE={mark}".encode() in (process / "environ").read_bytes()
            if marked or (process / "cwd").readlink().is_relative_to(home / "postgres"):
                found.append(f"{entry} {(process / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()[:120]}")
    return found


def gone(mark: str, *, home: Path, within_s: float) -> list[str]:
    """What is still there after at most `within_s`."""
    deadline = time.monotonic() + within_s
    while (left := of_instance(mark, home=home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
