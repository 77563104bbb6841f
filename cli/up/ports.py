"""Free ports on the loopback address, and whether it is really our child that listens on one."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
_NEAR = 200
"""A taken port is replaced by one of so many after it."""
_LISTEN = "0A"  # state in /proc/net/tcp, include/net/tcp_states.h


def is_free(port: int, *, host: str = LOOPBACK) -> bool:
    """True if a server could bind the port now. SO_REUSEADDR as servers set it: closed connections do not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Ports:
    """Hands out ports, each once."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self, preferred: int, *, again: bool = False) -> int:
        """`preferred` if it is free, else a free one near it; `again` after a lost race: one that others do not try too."""
        near = list(range(preferred + 1, preferred + _NEAR))
        if again:
            random.shuffle(near)
        for port in [preferred, *near]:
            if port not in self._given and is_free(port):
                self._given.add(port)
                return port
        return self.any()

    def any(self) -> int:
        """A free port that the kernel picks."""
        while True:
            with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
                probe.bind((LOOPBACK, 0))
                port = int(probe.getsockname()[1])
            if port not in self._given:
                self._given.add(port)
                return port


def listens(group: int, port: int) -> bool:
    """True if a process of the process group `group` listens on `port`.

    Two instances that start at once probe the same free port; without this the loser would take the winner's server for
    its own. Where there is no /proc the answer is True: the race is then only caught by the child's end.
    """
    if sys.platform != "linux":
        return True
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return any(link in wanted for link in _open_files(group)) if wanted else False


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _open_files(group: int) -> Iterator[str]:
    for entry in os.listdir("/proc"):
        # A process that ends while we look, or that is not ours to look at, is none of the group's listeners.
        with suppress(OSError):
            if entry.isdigit() and os.getpgid(int(entry)) == group:
                for descriptor in os.listdir(f"/proc/{entry}/fd"):
                    with suppress(OSError):
                        yield os.readlink(f"/proc/{entry}/fd/{descriptor}")
