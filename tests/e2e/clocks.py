"""Clocks that can be set, one for each process: libfaketime (Debian's package `faketime`) between it and the machine's."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from cli.up.postgres_folder import PostgresFolder

_PLACES = "*/faketime/libfaketimeMT.so.1"
LOOKS_EVERY_S = 1
"""How soon a process notices that its clock was set."""


@dataclass(frozen=True, slots=True)
class SetClock:
    """What people have as time goes wrong; spans (CLOCK_MONOTONIC) go on as they are, as after `date --set`."""

    library: Path
    file: Path

    def set(self, ahead: timedelta) -> None:
        """Whole, whoever reads it meanwhile."""
        unfinished = self.file.with_suffix(".new")
        unfinished.write_text(f"{ahead.total_seconds():+.0f}\n")
        unfinished.chmod(0o644)
        unfinished.replace(self.file)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": str(LOOKS_EVERY_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def clock_of(name: str, *, home: Path) -> SetClock:
    """One that goes right. Skips the test where the library is not installed; in CI it must be."""
    library = min(Path("/usr/lib").glob(_PLACES), default=None)
    if library is None:
        told = "libfaketime is not installed (Debian: apt-get install faketime), so no clock can be set"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    made = SetClock(library, home / f"{name}.clock")
    made.set(timedelta())
    return made


@dataclass(frozen=True, slots=True)
class ClockedPostgres(PostgresFolder):
    """PostgreSQL's programs, of which the server is started with a clock of its own."""

    server: Path = field(default=Path())

    def program(self, name: str) -> Path:
        return self.server if name == "postgres" else PostgresFolder.program(self, name)


def with_clock(folder: PostgresFolder, clock: SetClock, *, home: Path) -> ClockedPostgres:
    script = home / "postgres-with-clock"
    given = " ".join(f"'{name}={value}'" for name, value in clock.environment.items())
    script.write_text(f"#!/bin/sh\nexec env {given} '{folder.program('postgres')}' \"$@\"\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH | stat.S_IRGRP | stat.S_IROTH)
    return ClockedPostgres(folder.base, folder.install, folder.user, folder.note, script)
