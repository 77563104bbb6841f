"""TONGDA_HOME: the folder of everything one instance keeps, held by one supervisor at a time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli.up.postgres_folder import write_private

_OWN_FOLDER, _PASSABLE = 0o700, 0o711


class HomeHeld(Exception):
    """Another supervisor works in this folder; the text says which."""


class Home:
    """Open it with `with`: the lock goes with the process, whatever its end, and leaves no file."""

    def __init__(self, path: Path, *, setting: str = "TONGDA_HOME") -> None:
        """`setting`: the variable by which people choose another folder."""
        self.path = path.absolute()
        self._setting = setting
        self._descriptor = -1

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def key_file(self) -> Path:
        return self.path / "api-key"

    @property
    def temporal_database(self) -> Path:
        return self.path / "temporal" / "temporal.db"

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def _holder(self) -> Path:
        return self.path / "supervisor.pid"

    def __enter__(self) -> Self:
        """Make the folder, lock it, clear what a killed supervisor left. Raises HomeHeld, OSError."""
        if not self.path.exists():
            self.path.mkdir(parents=True)
            # As root PostgreSQL runs as another user, who has to pass through.
            self.path.chmod(_PASSABLE if os.geteuid() == 0 else _OWN_FOLDER)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise HomeHeld(
                f"{self.path} is in use by {self._who()}: stop that, or set {self._setting} to another folder"
            ) from None
        self._holder.write_text(f"{os.getpid()}\n")
        self.run_file.unlink(missing_ok=True)
        for folder in (self.logs, self.temporal_database.parent):
            folder.mkdir(mode=_OWN_FOLDER, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for path in (self.run_file, self._holder):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def secret_key(self) -> str:
        """The installation's secret: made on the first start, readable by us only."""
        path = self.path / "secret-key"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(48))
        return path.read_text().strip()

    def api_key(self) -> str:
        """The key in the key file; empty if there is none."""
        try:
            return self.key_file.read_text().strip()
        except FileNotFoundError:
            return ""

    def keep_api_key(self, key: str) -> None:
        write_private(self.key_file, key + "\n")

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Write run.json, whole or not at all; readable by us only, because it holds the database's URL."""
        write_private(self.run_file, json.dumps(facts, indent=2) + "\n")

    def _who(self) -> str:
        try:
            return f"process {int(self._holder.read_text())}"
        except (OSError, ValueError):
            return "another supervisor that is just starting"
