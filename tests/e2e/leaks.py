"""Where a canary or a secret could have got to in a running service, as texts that can be searched."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from sqlalchemy import Column, LargeBinary, Table, Uuid
from sqlalchemy.types import Boolean, DateTime, Integer, Interval
from temporalio.client import Client

from cli.up.ports import listens
from cli.up.service import METRICS_PORT, WORKERS
from infra.postgres.tables import PERSONAL, metadata

_METRICS_PORTS = range(METRICS_PORT, METRICS_PORT + 400)
_HARMLESS = (Uuid, Boolean, DateTime, Integer, Interval)
"""Types that cannot hold a text."""
_DESIGNS = {"template_version": ("variables", "contents", "example_data")}
"""What an author of templates has written: nobody's data, and the only other place where a text of a caller belongs."""


async def everywhere(facts: Mapping[str, Any], *, home: Path) -> AsyncIterator[tuple[str, str]]:
    """(place, text) of all that must hold neither personal data nor secrets."""
    for name, text in await asyncio.to_thread(lambda: list(_logs(home))):
        yield name, text
    async for name, text in _metrics(facts):
        yield name, text
    async for name, text in _workflows(facts["temporal_address"]):
        yield name, text
    async for name, text in _columns(facts["database_url"], personal=False):
        yield name, text


async def personal_columns(facts: Mapping[str, Any]) -> AsyncIterator[tuple[str, str]]:
    """(place, text) of what may hold personal data: never a secret of ours."""
    async for name, text in _columns(facts["database_url"], personal=True):
        yield name, text


def _logs(home: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(p for p in (home / "logs").rglob("*") if p.is_file()):
        yield f"log {path.name}", path.read_text(encoding="utf-8", errors="replace")
    screen = home.with_name(f"{home.name}.screen")
    yield "screen", screen.read_text(encoding="utf-8", errors="replace")


async def _metrics(facts: Mapping[str, Any]) -> AsyncIterator[tuple[str, str]]:
    urls = {"api": facts["api_url"]}
    for name in WORKERS:
        group = facts["processes"][name]
        port = await asyncio.to_thread(_metrics_port, group)
        urls[name] = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False) as http:
        for name, url in urls.items():
            answer = (await http.get(f"{url}/metrics")).raise_for_status()
            assert "tongda_" in answer.text, f"{name} shows no figures"
            yield f"metrics of {name}", answer.text


def _metrics_port(group: int) -> int:
    return next(port for port in _METRICS_PORTS if listens(group, port))


async def _workflows(address: str) -> AsyncIterator[tuple[str, str]]:
    """Every workflow as lists show it (search attributes, memo), as its page does (pending activities), and its history."""
    client = await Client.connect(address)
    found = 0
    async for workflow in client.list_workflows():
        handle = client.get_workflow_handle(workflow.id, run_id=workflow.run_id)
        described = await handle.describe()
        history = await handle.fetch_history()
        yield f"list {workflow.id}", _opened(workflow.raw_info)
        yield f"description {workflow.id}", _opened(described.raw_description)
        yield f"history {workflow.id}", unpacked(history.to_json())
        found += 1
    assert found, "no workflow ran"


def _opened(message: Message) -> str:
    return unpacked(MessageToJson(message))


def unpacked(text: str) -> str:
    """JSON of Temporal, with each payload's base64 also as what it says."""
    parts = [text]

    def visit(value: object) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                visit(inner)
        elif isinstance(value, list):
            for inner in value:
                visit(inner)
        elif isinstance(value, str):
            try:
                parts.append(base64.b64decode(value, validate=True).decode(errors="replace"))
            except (ValueError, binascii.Error):
                return

    visit(json.loads(text))
    return "\n".join(parts)


async def _columns(url: str, *, personal: bool) -> AsyncIterator[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    try:
        for table in metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, _HARMLESS) or column.name in _DESIGNS.get(table.name, ()):
                    continue
                if (column.name in PERSONAL.get(table.name, ())) == personal:
                    rows = await connection.fetch(_query(table, column))
                    yield f"column {table.name}.{column.name}", "\n".join(row[0] for row in rows)
    finally:
        await connection.close()


def _query(table: Table, column: Column[Any]) -> str:
    shown = f"encode(\"{column.name}\", 'escape')" if isinstance(column.type, LargeBinary) else f'"{column.name}"::text'
    return f'SELECT DISTINCT {shown} FROM "{table.name}" WHERE "{column.name}" IS NOT NULL'
