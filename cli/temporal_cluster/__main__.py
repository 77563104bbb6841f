"""`scripts/temporal-cluster build | start | status | stop`: a real Temporal server on PostgreSQL. See `--help`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cli.temporal_cluster.binaries import NotBuilt, Programs, build_blocking
from cli.temporal_cluster.place import DATABASE_SETTING, DEFAULT, KEEPER, SETTING, keeper_of, known, lines
from cli.up.service import CHECKOUT

POLL_S = 0.1
STOP_S = 90.0
"""Above the keeper's own grace for all of its children together."""
NOT_RUNNING = 3
"""Exit code of `status`, as init scripts have it."""
INTERRUPTED = 130
SERVERS = (1, 2)


def build() -> int:
    """Say where the programs are."""
    programs = _programs()
    if programs is None:
        return 1
    print(programs.folder)
    return 0


def _programs() -> Programs | None:
    """Built, if need be; None if that failed, which has been said."""
    try:
        return build_blocking()
    except NotBuilt as failure:
        print(failure, file=sys.stderr)
        return None


def start(home: Path, *, servers: int, port: int, web_ui: bool) -> int:
    """Start it, wait until it is usable, and leave it running. One that runs already is success, if it is of that size."""
    if keeper_of(home) is not None:
        return _start_again(home, servers=servers)
    if _programs() is None:
        return 1
    if not home.exists():
        home.mkdir(parents=True)
        # As root PostgreSQL runs as another user, who has to pass through.
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    log = home / "keeper.log"
    options = ["--servers", str(servers), "--port", str(port), *([] if web_ui else ["--no-ui"])]
    with log.open("wb") as out:
        keeper = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", KEEPER, str(home), *options],
            cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _follow_until_usable(keeper, home=home, log=log)
    except BaseException:
        keeper.terminate()  # it stops what it has started
        keeper.wait()
        raise
    if keeper.poll() is not None:
        print(f"Temporal did not start; see {home / 'logs'}", file=sys.stderr)
        return 1
    return status(home)


def _start_again(home: Path, *, servers: int) -> int:
    found = known(home)
    if found is not None and len(found.servers) != servers:
        print(f"It runs already, with --servers {len(found.servers)}: stop it first.", file=sys.stderr)
        return 1
    return status(home)


def _follow_until_usable(keeper: subprocess.Popen[bytes], *, home: Path, log: Path) -> None:
    """Show what the keeper says until the cluster can be used, or the keeper has ended."""
    with log.open(encoding="utf-8", errors="replace") as said:
        while keeper.poll() is None and known(home) is None:
            print(said.read(), end="", flush=True)
            time.sleep(POLL_S)
        print(said.read(), end="", flush=True)


def stop(home: Path) -> int:
    """Ask it to end, and wait; kill it when it does not. One that does not run is success."""
    pid = keeper_of(home)
    if pid is None:
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while keeper_of(home) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # its servers end with it
            print(f"It did not stop within {STOP_S:.0f} s and was killed.", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    return 0


def status(home: Path) -> int:
    """Say what runs and where, with the settings to copy."""
    found = known(home)
    if found is None:
        starting = keeper_of(home) is not None
        print("Temporal is starting." if starting else "Temporal does not run.")
        return NOT_RUNNING
    print("\n".join(lines(found, home=home)))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 could not, 2 wrong arguments, 3 (`status`) does not run, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="scripts/temporal-cluster",
        description="A real Temporal server on PostgreSQL, with the settings that Tongda wants.",
        epilog=f"Data, logs and configuration are in {SETTING} ({DEFAULT} in the checkout unless set). PostgreSQL is the"
        f" script's own, unless {DATABASE_SETTING}=postgresql://USER:PASSWORD@HOST:PORT/ names one where USER may make"
        " databases.",
    )
    parser.add_argument("what", choices=["build", "start", "status", "stop"], help="build: only what start does first")
    parser.add_argument("--servers", type=int, choices=SERVERS, default=1, help="start: how many server processes")
    parser.add_argument("--port", type=int, default=0, help="start: where clients connect, instead of 7233 or near it")
    parser.add_argument("--no-ui", action="store_true", help="start: without the Web UI")
    given = parser.parse_args(arguments)
    if not 0 <= given.port <= 65535:
        parser.error("--port is not a port number")
    home = Path(os.environ.get(SETTING) or CHECKOUT / DEFAULT).resolve()
    try:
        return _do(given, home=home)
    except KeyboardInterrupt:
        return INTERRUPTED


def _do(given: argparse.Namespace, *, home: Path) -> int:
    if given.what == "build":
        return build()
    if given.what == "start":
        return start(home, servers=given.servers, port=given.port, web_ui=not given.no_ui)
    return stop(home) if given.what == "stop" else status(home)


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C: a build that is broken off leaves no process and no half of it.
        signal.signal(ending, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(main())
