"""What a real Cassandra needs on this machine: Java 17, and its jars, which Maven fetches once. Standard library only.

The jars (63 MB) are kept in `$XDG_CACHE_HOME/tongda`, for all checkouts and test runs of this user.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

VERSION = "5.0.9"
SERVER = Path(__file__).parent / "server"
JAVA_VERSION = 17
_FETCH_S = 900.0


class Missing(Exception):
    """Something that Cassandra needs is not on this machine; the text says what to install."""


@functools.cache
def java() -> str:
    """The path of a Java 17. Raises Missing."""
    home = os.environ.get("JAVA_HOME")
    found = [f"{home}/bin/java"] if home else []
    found += [shutil.which("java") or "", *sorted(glob.glob("/usr/lib/jvm/*/bin/java"))]
    for path in found:
        if path and _version_blocking(path) == JAVA_VERSION:
            return path
    raise Missing(f"Java {JAVA_VERSION} is missing: install the package openjdk-{JAVA_VERSION}-jdk-headless")


def _version_blocking(path: str) -> int | None:
    try:
        said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr  # noqa: S603 - a java of this machine
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else None


def jars_blocking() -> Path:
    """The folder of Cassandra's jars; the first call fetches them, some 20 s. Raises Missing."""
    folder = _cache() / f"cassandra-{VERSION}"
    if folder.is_dir():
        return folder
    java()
    if shutil.which("mvn") is None:
        raise Missing("Maven is missing: install the package maven")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place and renamed when whole: an interrupted fetch leaves nothing, and of two at once one wins.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as temporary:
        made = Path(temporary) / "lib"
        _fetch_blocking(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def _fetch_blocking(folder: Path) -> None:
    command = [
        "mvn", "-B", "-q", "-f", str(SERVER / "pom.xml"), "dependency:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={folder}",
    ]  # fmt: skip
    # Constants of this file only.
    done = subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_FETCH_S, check=False
    )
    if done.returncode != 0 or not any(folder.glob("cassandra-all-*.jar")):
        last = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise Missing("Maven could not fetch Cassandra: " + " / ".join(last))
    for native in (*folder.glob("*-osx-*.jar"), *folder.glob("*-windows-*.jar")):
        native.unlink()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tongda"
