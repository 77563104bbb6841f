"""Where a cluster keeps everything, and what is known of one that runs: by its process, not by a file that may be old."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SETTING: Final = "TONGDA_CLUSTER_HOME"
DATABASE_SETTING: Final = "TONGDA_CLUSTER_DATABASE_URL"
DEFAULT: Final = ".tongda-cluster"
KEEPER: Final = "cli.temporal_cluster.keeper"


@dataclass(frozen=True, slots=True)
class Known:
    """A running cluster, as its keeper has written it down."""

    address: str
    ui_url: str
    processes: dict[str, int]

    @property
    def servers(self) -> list[str]:
        return sorted(name for name in self.processes if name.startswith("temporal-"))


def keeper_of(home: Path) -> int | None:
    """The process that keeps the cluster of this folder; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((home / "supervisor.pid").read_text())
        parts = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if KEEPER.encode() in parts and os.fsencode(home) in parts:
            return pid
    return None


def known(home: Path) -> Known | None:
    """What runs in this folder; None while nothing is usable."""
    if keeper_of(home) is None:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError):
        facts: dict[str, Any] = json.loads((home / "run.json").read_text(encoding="utf-8"))
        return Known(facts["address"], facts["ui_url"], facts["processes"])
    return None


def runs(pid: int) -> bool:
    """True if the process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def lines(found: Known, *, home: Path) -> list[str]:
    """What to show of it: what runs, where, and the settings to use it with."""
    shown = []
    for name, pid in sorted(found.processes.items()):
        said = f"process {pid}" if runs(pid) else "does not run any more"
        shown.append(f"  {name:14} {said}")
    shown += [f"  {'logs':14} {home / 'logs'}", ""]
    shown.append(f"TONGDA_TEMPORAL_ADDRESS={found.address}")
    if found.ui_url:
        shown.append(f"TONGDA_TEMPORAL_UI_URL={found.ui_url}")
    return shown
