"""`python -m benchmarks [accept|engine|http|latency|memory|all] [--quick]`: start, measure, stop, print, keep as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import uvloop

from benchmarks import accept, engine, http_calls, latency, machine, memory, table
from benchmarks.instance import Instance, NotStarted, running_service

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
}
HTTP = "http"
"""The suite that needs no service: one process and the sandbox's sink."""


async def run(names: Sequence[str], *, quick: bool) -> None:
    """Each suite, on a fresh instance where it needs one. Raises NotStarted, TimeoutError."""
    for name in names:
        facts = machine.facts()
        print(f"{name}: load average {facts['load_average_before']}, measuring ...", flush=True)
        if name == HTTP:
            figures = await http_calls.measure(quick=quick)
        else:
            figures, facts["database"] = await _on_fresh_instance(SUITES[name], quick=quick)
        result = {"name": name, "quick": quick, "machine": facts, "figures": figures}
        # Short runs are for development: they stay out of git and out of the documentation.
        path = RESULTS / (f"{name}.local.json" if quick else f"{name}.json")
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(table.render({name: result}), flush=True)


async def _on_fresh_instance(measure: Measure, *, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its figures, and the facts of the database they were taken on."""
    async with running_service() as instance:
        database = await asyncpg.connect(instance.database_url, server_settings={"plan_cache_mode": "force_generic_plan"})
        try:
            facts = await machine.database_facts(database)
            return await measure(instance, database, quick=quick), facts
        finally:
            await database.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("suite", nargs="?", default="all", choices=[*SUITES, HTTP, "all"])
    parser.add_argument("--quick", action="store_true", help="short rounds; nothing but *.local.json is written")
    arguments = parser.parse_args()
    names = [*SUITES, HTTP] if arguments.suite == "all" else [arguments.suite]
    RESULTS.mkdir(exist_ok=True)
    # Told to stop in either way, the service is stopped too.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        uvloop.run(run(names, quick=arguments.quick))
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
