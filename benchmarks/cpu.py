"""CPU time by process, from /proc. Ended children count too: their parent's cutime and cstime hold them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _CSTIME = 1, 11, 14
"""Places after the command name in /proc/<pid>/stat (proc(5): fields 4, 14 and 17)."""


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    ticks: int
    """utime + stime + cutime + cstime."""


def _stat(pid: int | str) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return _Stat(int(fields[_PPID]), sum(int(value) for value in fields[_UTIME : _CSTIME + 1]))


def family_s(pid: int) -> float:
    """CPU seconds of a process, of its living children and of those that ended: all backends of a postmaster."""
    own = _stat(pid)
    ticks = own.ticks if own is not None else 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(entry)
            if stat is not None and stat.parent == pid:
                ticks += stat.ticks
    return ticks / _TICKS_PER_S


class CpuMeter:
    """CPU seconds by process name since it was made."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = dict(processes)
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        # The supervisor is left out: its cutime would hold every process that has ended.
        return {name: family_s(pid) for name, pid in self._processes.items() if name != "supervisor"}

    def used_s(self) -> dict[str, float]:
        now = self._read()
        return {name: round(now[name] - self._before[name], 2) for name in now}


def us_each(used_s: Mapping[str, float], *, messages: int, aside: tuple[str, ...] = ("sandbox",)) -> dict[str, int]:
    """Microseconds a message by process; `all` is their sum without those of `aside`."""
    each = {name: round(seconds * 1e6 / max(1, messages)) for name, seconds in used_s.items()}
    return {**each, "all": sum(us for name, us in each.items() if name not in aside)}
