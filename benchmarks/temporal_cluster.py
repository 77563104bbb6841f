"""A Temporal cluster to measure against: in a temporary folder, on a PostgreSQL of its own (fsync on), gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.instance import NotStarted, new_folder
from cli.temporal_cluster.binaries import TEMPORAL_VERSION, NotBuilt, build_blocking
from cli.temporal_cluster.cluster import PortTaken, Wanted, running
from cli.temporal_cluster.config import SHARDS
from cli.up.child import ChildFailed

POSTGRES = "temporal-postgres"
"""What its PostgreSQL is called in the figures, beside ours."""


@dataclass(frozen=True, slots=True)
class Temporal:
    """Where it is, and whose CPU counts."""

    address: str
    processes: Mapping[str, int]
    facts: Mapping[str, Any]


@contextlib.asynccontextmanager
async def running_cluster(servers: int) -> AsyncIterator[Temporal]:
    """So many server processes; clients are given the first one, so that no balancer of ours costs anything.

    Raises NotStarted.
    """
    try:
        programs = await asyncio.to_thread(build_blocking)
    except NotBuilt as failure:
        raise NotStarted(str(failure)) from None
    folder = new_folder()
    wanted = Wanted(servers=servers, web_ui=False, one_address=False)
    try:
        async with contextlib.AsyncExitStack() as stack:
            try:
                started = running(folder, wanted, programs=programs, say=lambda text: print(f"  {text}", flush=True))
                cluster = await stack.enter_async_context(started)
            except (ChildFailed, LookupError, OSError, PortTaken) as failure:
                raise NotStarted(f"the Temporal cluster did not start: {failure}") from None
            named = {POSTGRES if name == "postgres" else name: pid for name, pid in cluster.processes().items()}
            yield Temporal(
                cluster.address, named, {"temporal_version": TEMPORAL_VERSION, "servers": servers, "shards": SHARDS}
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
