"""A real Cassandra for the tests that want one: password log-in, a free port, gone with the test run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.cassandra.jars import Missing, jars_blocking, java
from cli.cassandra.node import DATACENTER, LOOPBACK, READY_S, STOP_S, Node
from cli.up.child import Child, Command
from cli.up.launch import Launch, launch
from cli.up.ports import Ports
from infra.settings import Settings


@asynccontextmanager
async def running(folder: Path, *, ports: Ports) -> AsyncIterator[Settings]:
    """The settings to reach it. Without Java or Maven the test is skipped; in CI (CI=true) that is a failure."""
    try:
        java_path, jars = java(), await asyncio.to_thread(jars_blocking)
    except Missing as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"required in CI: {error}")
        pytest.skip(str(error))
    child, port = await _start(folder, ports=ports, java_path=java_path, jars=jars)
    try:
        yield Settings(
            cassandra_hosts=(f"{LOOPBACK}:{port}",),
            cassandra_datacenter=DATACENTER,
            cassandra_username="cassandra",
            cassandra_password=SecretStr("cassandra"),
        )
    finally:
        await child.stop()


async def _start(folder: Path, *, ports: Ports, java_path: str, jars: Path) -> tuple[Child, int]:
    def prepare(_: int) -> Launch:
        node = Node(folder, ports.any(), ports.any(), password=True)
        node.configure()
        command = Command(
            name="cassandra",
            arguments=node.command(java=java_path, jars=jars),
            log=folder / "log" / "stdout.log",
            environment=os.environ,
            folder=folder,
            stop_s=STOP_S,
        )
        return Launch(command=command, ports=[node.port], ready=node.answers, within_s=READY_S)

    child, launched = await launch(prepare)
    return child, launched.ports[0]
