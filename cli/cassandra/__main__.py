"""`scripts/cassandra start|stop|status FOLDER`: a real Cassandra on this machine, for trying and testing. See `--help`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cli.cassandra.jars import Missing, jars_blocking, java
from cli.cassandra.node import DATACENTER, LOOPBACK, READY_S, STOP_S, Node
from cli.up.ports import Ports

PREFERRED_PORT = 9042
PREFERRED_STORAGE_PORT = 7000
POLL_S = 0.2
NOT_RUNNING = 3
"""Exit code of `status`, as init scripts have it."""


def start(folder: Path, *, password: bool) -> int:
    """Start it, wait until it answers, and leave it running. One that runs already is success."""
    if _pid(folder) is not None:
        return status(folder)
    ports = Ports()
    node = Node(folder, ports.take(PREFERRED_PORT), ports.take(PREFERRED_STORAGE_PORT), password=password)
    node.configure()
    command = node.command(java=java(), jars=jars_blocking())
    with (folder / "log" / "stdout.log").open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own command line
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    (folder / "run.json").write_text(json.dumps({"pid": child.pid, "port": node.port}), encoding="utf-8")
    deadline = time.monotonic() + READY_S
    while not asyncio.run(node.answers()):
        if child.poll() is not None or time.monotonic() > deadline:
            stop(folder)
            print(f"Cassandra did not start; see {folder}/log", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    return status(folder)


def stop(folder: Path) -> int:
    """Ask it to drain and end; kill it when it does not. One that does not run is success."""
    pid = _pid(folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while _pid(folder) == pid:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(POLL_S)
    (folder / "run.json").unlink(missing_ok=True)
    return 0


def status(folder: Path) -> int:
    """Say where it listens, as settings to copy."""
    if _pid(folder) is None:
        print("Cassandra does not run.")
        return NOT_RUNNING
    port = json.loads((folder / "run.json").read_text(encoding="utf-8"))["port"]
    print(f"TONGDA_CASSANDRA_HOSTS={LOOPBACK}:{port}\nTONGDA_CASSANDRA_DATACENTER={DATACENTER}")
    return 0


def _pid(folder: Path) -> int | None:
    """The running node of this folder: what is written down, if that is still our command."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        pid = int(json.loads((folder / "run.json").read_text(encoding="utf-8"))["pid"])
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return pid if f"-Dcassandra.storagedir={folder}".encode() in command.split(b"\0") else None
    return None


def main() -> int:
    """Exit code: 0 done, 1 could not, 2 wrong arguments, 3 (`status`) does not run."""
    parser = argparse.ArgumentParser(prog="scripts/cassandra", description="A real Cassandra, for trying and testing.")
    parser.add_argument("what", choices=["fetch", "start", "stop", "status"], help="fetch: only get its jars")
    parser.add_argument("folder", type=Path, nargs="?", help="where its data, logs and configuration are")
    parser.add_argument("--password", action="store_true", help="start: clients log in, first as cassandra/cassandra")
    arguments = parser.parse_args()
    try:
        if arguments.what == "fetch":
            print(jars_blocking())
            return 0
        if arguments.folder is None:
            parser.error(f"{arguments.what} needs a folder")
        folder = arguments.folder.resolve()
        if arguments.what == "start":
            return start(folder, password=arguments.password)
        return stop(folder) if arguments.what == "stop" else status(folder)
    except Missing as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
