"""`python -m benchmarks [accept|engine|http|latency|memory|priority|all] [--quick]`: start, measure, stop, print, keep.

`engine --temporal cluster [--servers 1|2]` is the same against a real Temporal on PostgreSQL (`scripts/temporal-cluster`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import uvloop

from benchmarks import accept, engine, http_calls, latency, machine, memory, priority, table
from benchmarks.instance import Instance, NotStarted, running_service
from benchmarks.temporal_cluster import running_cluster

RESULTS = Path(__file__).resolve().parent / "results"


class Measure(Protocol):
    def __call__(
        self, instance: Instance, database: asyncpg.Connection, /, *, quick: bool
    ) -> Awaitable[dict[str, Any]]: ...


SUITES: Mapping[str, Measure] = {
    "accept": accept.measure,
    "engine": engine.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "priority": priority.measure,
}
HTTP = "http"
"""The suite that needs no service: one process and the sandbox's sink."""


async def run(names: Sequence[str], *, quick: bool, cluster: int = 0) -> None:
    """Each suite, on a fresh instance where it needs one; `cluster`: against so many servers of a real Temporal.

    Raises NotStarted, TimeoutError.
    """
    for name in names:
        facts = machine.facts()
        print(f"{name}: load average {facts['load_average_before']}, measuring ...", flush=True)
        if name == HTTP:
            figures = await http_calls.measure(quick=quick)
        else:
            figures, told = await _on_fresh_instance(SUITES[name], quick=quick, cluster=cluster)
            facts |= told
        name = f"{name}-cluster-{cluster}" if cluster else name
        result = {"name": name, "quick": quick, "machine": facts, "figures": figures}
        # Short runs are for development: they stay out of git and out of the documentation.
        path = RESULTS / (f"{name}.local.json" if quick else f"{name}.json")
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(table.render({name: result}), flush=True)


async def _on_fresh_instance(measure: Measure, *, quick: bool, cluster: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its figures, and the facts of the database and the Temporal that they were taken on."""
    async with _instance(cluster) as (instance, temporal):
        database = await asyncpg.connect(instance.database_url, server_settings={"plan_cache_mode": "force_generic_plan"})
        try:
            facts = {"database": await machine.database_facts(database), **temporal}
            return await measure(instance, database, quick=quick), facts
        finally:
            await database.close()


@contextlib.asynccontextmanager
async def _instance(cluster: int) -> AsyncIterator[tuple[Instance, dict[str, Any]]]:
    """A running service, with its own Temporal or a cluster's; and what is to be told of that."""
    if not cluster:
        async with running_service() as instance:
            yield instance, {}
        return
    async with running_cluster(cluster) as temporal, running_service(TEMPORAL_ADDRESS=temporal.address) as instance:
        yield replace(instance, processes={**instance.processes, **temporal.processes}), {"temporal": temporal.facts}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("suite", nargs="?", default="all", choices=[*SUITES, HTTP, "all"])
    parser.add_argument("--quick", action="store_true", help="short rounds; nothing but *.local.json is written")
    parser.add_argument(
        "--temporal", choices=["embedded", "cluster"], default="embedded", help="cluster: on PostgreSQL; needs Go"
    )
    parser.add_argument("--servers", type=int, choices=[1, 2], help="of the cluster; 1 unless told")
    arguments = parser.parse_args()
    cluster = (arguments.servers or 1) if arguments.temporal == "cluster" else 0
    if cluster and arguments.suite != "engine":
        parser.error("--temporal cluster is for the suite engine")
    if arguments.servers and not cluster:
        parser.error("--servers is for --temporal cluster")
    names = [*SUITES, HTTP] if arguments.suite == "all" else [arguments.suite]
    RESULTS.mkdir(exist_ok=True)
    # However this process is told to stop, the service stops too.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        uvloop.run(run(names, quick=arguments.quick, cluster=cluster))
    except (NotStarted, TimeoutError) as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not arguments.quick:
        with contextlib.suppress(FileNotFoundError):
            table.refresh(RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
