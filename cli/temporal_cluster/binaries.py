"""Temporal's server, its SQL tool and its Web UI: built once from their Go modules. Standard library only.

Go's own configuration says where modules come from. What is built is kept in `$XDG_CACHE_HOME/tongda`, for all checkouts of
this user; the first build takes about five minutes on two cores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TEMPORAL_VERSION = "1.32.1"
UI_VERSION = "2.55.0"
GO_VERSION = (1, 26, 8)
"""What the go.mod of that version of the server asks for: look there when it changes."""
_BUILD_S = 3600.0
_ASK_S = 60.0
_SAID_LINES = 8
_USUAL_PLACE = "/usr/local/go/bin/go"


class NotBuilt(Exception):
    """There are no programs; the text says what to install, or how the build ended."""


class GoMissing(NotBuilt):
    """No Go, or one that is too old."""


@dataclass(frozen=True, slots=True)
class Programs:
    folder: Path

    @property
    def server(self) -> Path:
        return self.folder / "temporal-server"

    @property
    def sql_tool(self) -> Path:
        return self.folder / "temporal-sql-tool"

    @property
    def web_ui(self) -> Path:
        return self.folder / "temporal-ui"


@dataclass(frozen=True, slots=True)
class _Module:
    package: str
    version: str
    makes: str
    """What Go calls the program: the last part of the package."""
    program: str
    """What we call it."""


_MODULES = (
    _Module("go.temporal.io/server/cmd/server", TEMPORAL_VERSION, "server", "temporal-server"),
    _Module("go.temporal.io/server/cmd/tools/sql", TEMPORAL_VERSION, "sql", "temporal-sql-tool"),
    _Module("github.com/temporalio/ui-server/v2/cmd/server", UI_VERSION, "server", "temporal-ui"),
)


def built() -> Programs | None:
    """The programs, if an earlier build has left them."""
    folder = _cache() / f"temporal-{TEMPORAL_VERSION}-ui-{UI_VERSION}"
    return Programs(folder) if folder.is_dir() else None


def build_blocking(*, say: Callable[[str], None] = print) -> Programs:
    """The programs; built if they are not there yet. `say` is told before each step. Raises NotBuilt."""
    there = built()
    if there is not None:
        return there
    go = find_go_blocking()
    folder = _cache() / f"temporal-{TEMPORAL_VERSION}-ui-{UI_VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place and renamed when whole: an interrupted build leaves nothing, and of two at once one wins.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as temporary:
        made = Path(temporary) / "programs"
        made.mkdir()
        for place, module in enumerate(_MODULES, start=1):
            say(f"building {module.program} {module.version} ({place} of {len(_MODULES)}) ...")
            _build_blocking(module, go=go, folder=made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return Programs(folder)


def find_go_blocking() -> str:
    """The path of a Go that is new enough. Raises GoMissing."""
    wanted = ".".join(map(str, GO_VERSION))
    found = shutil.which("go") or (_USUAL_PLACE if Path(_USUAL_PLACE).exists() else None)
    if found is None:
        raise GoMissing(f"Go is missing: install Go {wanted} or newer, and have `go` on the PATH")
    version = _version_blocking(found)
    if version is None:
        raise GoMissing(f"{found} does not say its version: install Go {wanted} or newer")
    if version < GO_VERSION:
        said = ".".join(map(str, version))
        raise GoMissing(f"{found} is Go {said}, and Temporal {TEMPORAL_VERSION} needs {wanted} or newer: install that")
    return found


def _version_blocking(go: str) -> tuple[int, ...] | None:
    try:
        said = subprocess.run(  # noqa: S603 - a Go of this machine
            [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=_ASK_S, check=False, env=_environment()
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(part or 0) for part in match.groups()) if match else None


def _build_blocking(module: _Module, *, go: str, folder: Path) -> None:
    # Niced: what else runs on the machine goes first. Without symbols, which is a third of the size.
    command = ["nice", "-n", "10", go, "install", "-trimpath", "-ldflags", "-s -w", f"{module.package}@v{module.version}"]
    try:
        done = subprocess.run(  # noqa: S603 - constants of this file
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
            env={**_environment(), "GOBIN": str(folder)},
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"{module.program} was not built within {_BUILD_S / 60:.0f} minutes") from None
    made = folder / module.makes
    if done.returncode != 0 or not made.exists():
        # The list of what was downloaded is not what went wrong.
        said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("go: downloading")]
        raise NotBuilt("\n  | ".join([f"Go could not build {module.program} {module.version}:", *said[-_SAID_LINES:]]))
    made.rename(folder / module.program)


def _environment() -> dict[str, str]:
    """Go's settings of this user; this toolchain and no other, no C compiler, and no cross-building into another folder."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH")}
    return {**inherited, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tongda"
