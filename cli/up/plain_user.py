"""PostgreSQL refuses root: as root it runs as a plain user, here is who that is and what that user can reach."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CANDIDATES = ("nobody", "daemon")
_UNNAMED = 65534  # "nobody" of containers without /etc/passwd

# Runs as root, becomes the user, then asks the kernel: mode bits alone do not tell of ACLs, mounts or namespaces.
_TRY = """
import os, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))
sys.exit(0 if all(os.access(p, os.X_OK) for p in sys.argv[3:]) else 4)
"""


@dataclass(frozen=True, slots=True)
class PlainUser:
    name: str
    uid: int
    gid: int

    def reaches(self, *paths: Path) -> bool:
        """True if this user can pass through (or execute) each of `paths`. Call as root."""
        command = [sys.executable, "-I", "-S", "-c", _TRY, str(self.uid), str(self.gid), *map(str, paths)]
        return subprocess.run(command, cwd="/", check=False, capture_output=True).returncode == 0  # noqa: S603


def plain_user(data: Path) -> PlainUser | None:
    """Who runs PostgreSQL; None = whoever we are, which is not root.

    An existing data folder stays with its owner (its owner is never changed), else the first of a few users that root can
    become here. Raises LookupError if there is none, or if the data belongs to root.
    """
    if os.geteuid() != 0:
        return None
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:
            raise LookupError(f"{data} belongs to root, and PostgreSQL never runs as root")
        return PlainUser(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for user in _candidates():
        if user.reaches(Path("/")):
            return user
    raise LookupError("PostgreSQL never runs as root, and there is no plain user here that root could become")


def _candidates() -> Iterable[PlainUser]:
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        yield PlainUser(name, entry.pw_uid, entry.pw_gid)
    yield PlainUser(str(_UNNAMED), _UNNAMED, _UNNAMED)
