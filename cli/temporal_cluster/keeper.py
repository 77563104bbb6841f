"""`python -m cli.temporal_cluster.keeper HOME`: holds a cluster in the background until it is told to stop.

Its servers are tied to its life: whatever ends it, none of them is left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from cli.temporal_cluster.binaries import NotBuilt, build_blocking
from cli.temporal_cluster.cluster import Cluster, PortTaken, Wanted, running
from cli.temporal_cluster.config import BadDatabase
from cli.temporal_cluster.place import DATABASE_SETTING, SETTING
from cli.up.child import ChildFailed
from cli.up.home import Home, HomeHeld

FAILURES = (BadDatabase, ChildFailed, HomeHeld, LookupError, NotBuilt, OSError, PortTaken)
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def keep(home: Path, wanted: Wanted, *, instance: str) -> int:
    """The exit code: 0 stopped as asked, 1 failed (said why)."""
    stop = asyncio.Event()
    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    living = asyncio.create_task(_live(home, wanted, instance=instance))
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait({living, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    living.cancel()
    try:
        await living
    except asyncio.CancelledError:
        _say("stopped")
        return 0
    except FAILURES as failure:
        _say(str(failure) or type(failure).__name__)
        return 1
    raise AssertionError("unreachable")


async def _live(home: Path, wanted: Wanted, *, instance: str) -> None:
    """Until it is cancelled; raises what went wrong."""
    programs = await asyncio.to_thread(build_blocking, say=_say)
    with Home(home, setting=SETTING) as held:
        async with running(held.path, wanted, programs=programs, instance=instance, say=_say) as cluster:
            held.publish(_facts(cluster))
            raise await cluster.died


def _facts(cluster: Cluster) -> dict[str, object]:
    return {"address": cluster.address, "ui_url": cluster.ui_url, "processes": cluster.processes()}


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-ui", action="store_true")
    arguments = parser.parse_args()
    wanted = Wanted(
        servers=arguments.servers,
        web_ui=not arguments.no_ui,
        port=arguments.port,
        database_url=os.environ.get(DATABASE_SETTING, ""),
    )
    return asyncio.run(keep(arguments.home, wanted, instance=os.environ.get("TONGDA_INSTANCE", "")))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Everything is stopped; what native libraries do while the interpreter goes must not change the code.
    os._exit(code)
