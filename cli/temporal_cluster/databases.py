"""Temporal's two databases: made and brought to this version's schema by Temporal's own tool. Safe to repeat."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import asyncpg

from cli.temporal_cluster.binaries import Programs
from cli.temporal_cluster.config import PLUGIN, STORES, Database
from cli.up import postgres
from cli.up.child import Child, Command, run_step
from cli.up.ports import Ports
from cli.up.postgres_folder import locate
from cli.up.times import REQUEST_S

PREFERRED_PORT: Final = 5434
SETTINGS: Final[Mapping[str, str]] = MappingProxyType({**postgres.DURABLE, "max_connections": "400"})
"""Two server processes hold up to 30 connections for each of their four services."""
_SCHEMA_S = 300.0
_SCHEMA_OF: Final = {"default": "temporal", "visibility": "visibility"}


async def start_postgres(home: Path, *, ports: Ports, log: Path, instance: str) -> tuple[Child, Database, str]:
    """A PostgreSQL of the cluster's own, its data in `home`; and what people should be told about its place."""
    folder = locate(home)
    await postgres.initialise(folder, log=log, instance=instance)
    child, url = await postgres.start(
        folder, ports=ports, log=log, settings=SETTINGS, instance=instance, preferred_port=PREFERRED_PORT
    )
    return child, Database.of(url), folder.note


async def check(database: Database) -> None:
    """Raises LookupError, without the password, if the PostgreSQL cannot be used."""
    try:
        connection = await _connect(database, name="postgres")
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        said = str(error) or type(error).__name__
        raise LookupError(f"the PostgreSQL at {database.host}:{database.port} cannot be used: {said}") from None
    await connection.close(timeout=REQUEST_S)


async def bring_to_schema(database: Database, *, programs: Programs, log: Path, instance: str) -> None:
    """Make what is missing. Raises ChildFailed."""
    for store, name in STORES.items():
        steps = [["create-database"], ["update-schema", "--schema-name", f"postgresql/v12/{_SCHEMA_OF[store]}"]]
        await _tool(steps[0], name=name, database=database, programs=programs, log=log, instance=instance)
        if not await _has_versions(database, name=name):
            steps.insert(1, ["setup-schema", "-v", "0.0"])
        for step in steps[1:]:
            await _tool(step, name=name, database=database, programs=programs, log=log, instance=instance)


async def _tool(
    arguments: list[str], *, name: str, database: Database, programs: Programs, log: Path, instance: str
) -> None:
    command = Command(
        name=f"temporal-sql-tool {arguments[0]}",
        arguments=[
            str(programs.sql_tool), "--plugin", PLUGIN, "--ep", database.host, "-p", str(database.port),
            "-u", database.user, "--db", name, *arguments,
        ],
        log=log,
        # Not on the command line, which every user of the machine can read.
        environment={
            "PATH": os.environ.get("PATH", os.defpath), "SQL_PASSWORD": database.password, "TONGDA_INSTANCE": instance,
        },
    )  # fmt: skip
    await run_step(command, within_s=_SCHEMA_S)


async def _has_versions(database: Database, *, name: str) -> bool:
    """True if the tool has worked on this database before: its own table is there."""
    connection = await _connect(database, name=name)
    try:
        return bool(await connection.fetchval("SELECT to_regclass('schema_version') IS NOT NULL"))
    finally:
        await connection.close(timeout=REQUEST_S)


async def _connect(database: Database, *, name: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=database.host,
        port=database.port,
        user=database.user,
        password=database.password,
        database=name,
        timeout=REQUEST_S,
    )
