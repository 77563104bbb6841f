"""Small disks of PostgreSQL's own, which fill and are given space again. To mount them takes root, and a machine that lets
it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.parts import Parts

SIZE_MB = 512
"""Taken from memory only as far as it is filled."""
_BLOCK = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system mounted in PostgreSQL's data folder."""

    path: Path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """To the last byte, as somebody else's file does; what it cannot write whole it writes in part."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(_BLOCK):
                pass

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(parts: Parts, name: str) -> Iterator[Disk]:
    """The folder `name` of PostgreSQL's data, with what is in it, on a disk of its own; PostgreSQL must not run, neither at
    the beginning nor at the end. Skips the test where nothing can be mounted."""
    place, user = parts.folder.data / name, parts.folder.user
    before = place.with_name(f"{name}.before")
    place.rename(before)
    place.mkdir(mode=0o700)
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0700", "tongda-small-disk", place],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounting.returncode != 0:
        pytest.skip(f"this machine mounts no small disk to fill (root with CAP_SYS_ADMIN can): {mounting.stderr.strip()}")
    try:
        shutil.copytree(before, place, dirs_exist_ok=True)
        for path in [place, *place.rglob("*")]:
            if user is not None:
                os.chown(path, user.uid, user.gid)
        yield Disk(place)
    finally:
        subprocess.run(["umount", place], check=True)
