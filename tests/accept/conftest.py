"""The real API over a real database; Temporal is away, which accept does not mind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from api.app import create_app
from api.container import Container, open_container
from domain.clock import Clock
from infra.clock import SYSTEM_CLOCK, ManualClock
from infra.postgres.bootstrap import bootstrap
from infra.settings import Settings

NOWHERE = "127.0.0.1:9"
"""Nothing listens on the discard port here."""


@dataclass
class Api:
    """A client with a key that may send, and a look behind the scenes."""

    http: httpx.AsyncClient
    container: Container
    pool: asyncpg.Pool

    async def post(self, body: Any, *, path: str = "/v1/notifications", key: str | None = None) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key is not None else {}
        if isinstance(body, bytes | str):
            headers["content-type"] = "application/json"
            return await self.http.post(path, content=body, headers=headers)
        return await self.http.post(path, json=body, headers=headers)

    async def count(self, table: str = "notification") -> int:
        count: int = await self.pool.fetchval(f"SELECT count(*) FROM {table}")
        return count


@pytest.fixture
async def api(database: str) -> AsyncIterator[Api]:
    async with running(database) as made:
        yield made


@pytest.fixture
async def timed(database: str, clock: ManualClock) -> AsyncIterator[Api]:
    """The API's clock is the test's `clock`; PostgreSQL's goes on by itself."""
    async with running(database, clock=clock) as made:
        yield made


@contextlib.asynccontextmanager
async def running(database: str, *, clock: Clock = SYSTEM_CLOCK) -> AsyncIterator[Api]:
    key = await bootstrap(database, tenant="acme", app="shop", name="test", roles=["owner"])
    settings = Settings(
        database_url=SecretStr(database), temporal_address=NOWHERE, secret_key=SecretStr("0123456789abcdef" * 2)
    )
    async with open_container(settings, clock=clock) as container:
        transport = httpx.ASGITransport(app=create_app(settings, container=container))
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http:
            await _people(container.database.pool)
            yield Api(http, container, container.database.pool)


async def _people(pool: asyncpg.Pool) -> None:
    """u-1 can be written to, u-gone cannot, and one of another tenant is nobody here."""
    await pool.execute("INSERT INTO tenant (id, name) VALUES ('other', 'other')")
    await pool.execute(
        "INSERT INTO person (tenant, id, state) VALUES ('acme', 'u-1', 'active'), ('acme', 'u-gone', 'erased'), "
        "('other', 'u-2', 'active')"
    )


def body(**changes: Any) -> dict[str, Any]:
    """A notification that is accepted; None as a value leaves the field out."""
    whole = {"to": {"email": "fang@example.com"}, "content": {"title": "你好", "text": "hello"}, **changes}
    return {name: value for name, value in whole.items() if value is not None}
