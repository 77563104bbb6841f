"""The real API over a real database, with a key of every role and a second tenant. Temporal is away; nobody needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from api.app import Front, create_app
from api.container import Container, open_container
from api.roles import Role
from cli.up.ports import Ports
from domain.clock import Clock
from domain.ids import uuid7
from infra.clock import SYSTEM_CLOCK, ManualClock
from infra.postgres.bootstrap import bootstrap
from infra.settings import Settings
from tests.ports import lasting_port

NOWHERE = "127.0.0.1:9"
TENANT, OTHER = "acme", "globex"
SECRET_KEY = "0123456789abcdef" * 2


@dataclass
class Api:
    """The app in process. `key` of a request is a role of tenant acme, or a key itself."""

    front: Front
    container: Container
    http: httpx.AsyncClient
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def pool(self) -> asyncpg.Pool:
        return self.container.database.pool

    async def call(
        self, method: str, path: str, *, key: str | None = "owner", headers: Mapping[str, str] | None = None, **rest: Any
    ) -> httpx.Response:
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        return await self.http.request(method, path, headers=sent, **rest)

    async def get(self, path: str, **rest: Any) -> httpx.Response:
        return await self.call("GET", path, **rest)

    async def post(self, path: str, json: Any = None, *, once: str | None = None, **rest: Any) -> httpx.Response:
        headers = {**rest.pop("headers", {}), **({"Idempotency-Key": once} if once is not None else {})}
        return await self.call("POST", path, json=json, headers=headers, **rest)

    async def count(self, table: str) -> int:
        count: int = await self.pool.fetchval(f"SELECT count(*) FROM {table}")
        return count

    async def pages(self, path: str, *, limit: int, **query: Any) -> AsyncIterator[list[dict[str, Any]]]:
        """Follows next_cursor to the end."""
        cursor: str | None = None
        while True:
            params = {**query, "limit": limit, **({"cursor": cursor} if cursor else {})}
            answer = (await self.get(path, params=params)).json()
            yield answer["items"]
            cursor = answer["next_cursor"]
            if cursor is None:
                return


def settings_for(database: str, *, read: str = "", **more: Any) -> Settings:
    return Settings(
        database_url=SecretStr(database), database_read_url=SecretStr(read), temporal_address=NOWHERE, temporal_ui_url="http://ui.test/",
        secret_key=SecretStr(SECRET_KEY), **{"webhook_receipts": True, **more},
    )  # fmt: skip


@asynccontextmanager
async def running(database: str, *, read: str = "", clock: Clock = SYSTEM_CLOCK, **more: Any) -> AsyncIterator[Api]:
    """`read`: another database for lists. `clock`: the API's own; PostgreSQL's goes on. `more`: other settings."""
    settings = settings_for(database, read=read, **more)
    async with open_container(settings, clock=clock) as container:
        front = create_app(settings, container=container)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://test") as http:
            yield Api(front, container, http)


class Way:
    """A way to the database that can be cut."""

    def __init__(self, database: str) -> None:
        parts = urlsplit(database)
        self._target = (parts.hostname, parts.port)
        self._port = lasting_port(Ports())
        at = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self._port}"
        self.url = parts._replace(netloc=at).geturl()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._flows = asyncio.Event()
        self._flows.set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self._port)

    def freeze(self) -> None:
        """From now on nothing is answered, and nothing is closed, as by a process that was stopped."""
        self._flows.clear()

    def thaw(self) -> None:
        """It goes on, with all that was sent meanwhile."""
        self._flows.set()

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0.05)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pour(reader, far_writer), self._pour(far_reader, writer))

    async def _pour(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._flows.wait()
                target.write(data)
                await target.drain()
        target.close()


async def make_keys(database: str) -> dict[str, str]:
    """Role -> key of acme; "other" -> an owner's key of globex."""
    roles = {role.value: await bootstrap(database, tenant=TENANT, app="shop", name=role, roles=[role]) for role in Role}
    return {**roles, "other": await bootstrap(database, tenant=OTHER, app="shop", name="other", roles=["owner"])}


@pytest.fixture
async def api(database: str) -> AsyncIterator[Api]:
    async with running(database) as made:
        made.keys = await make_keys(database)
        yield made


@pytest.fixture
async def timed_api(database: str, clock: ManualClock) -> AsyncIterator[Api]:
    """The API's clock is the test's `clock`; PostgreSQL's goes on by itself."""
    async with running(database, clock=clock) as made:
        made.keys = await make_keys(database)
        yield made


@pytest.fixture(scope="module")
async def shared_api(module_database: str) -> AsyncIterator[Api]:
    """One for a module whose tests leave nothing behind that another would see."""
    async with running(module_database) as made:
        made.keys = await make_keys(module_database)
        yield made


async def insert_notification(pool: asyncpg.Pool, **columns: Any) -> UUID:
    """A row as accept writes it; `columns` differ. Returns its id."""
    now = datetime.now(UTC)
    row: dict[str, Any] = {
        "id": uuid7(), "tenant": TENANT, "app": "shop", "lane": 1, "category": "orders", "user_id": None,
        "to_channel": "email", "to_address": "fang@example.com", "channels": ["email"], "strategy": "all",
        "status": "accepted", "accepted_at": now, "expires_at": now + timedelta(hours=1), **columns,
    }  # fmt: skip
    await _insert(pool, "notification", row)
    found: UUID = row["id"]
    return found


async def insert_step(pool: asyncpg.Pool, notification: UUID, **columns: Any) -> None:
    now = datetime.now(UTC)
    row = {
        "notification_id": notification, "n": 1, "tenant": TENANT, "lane": 1, "channel": "email", "account": "smtp-default",
        "address": "fang@example.com", "due_at": now, "expires_at": now + timedelta(hours=1), **columns,
    }  # fmt: skip
    await _insert(pool, "work", row)


async def insert_event(pool: asyncpg.Pool, notification: UUID, **columns: Any) -> None:
    row = {"notification_id": notification, "id": uuid7(), "n": 0, "at": datetime.now(UTC), "type": "planned", **columns}
    await _insert(pool, "event", row)


async def insert_delivery(pool: asyncpg.Pool, notification: UUID, **columns: Any) -> None:
    row = {
        "notification_id": notification, "n": 1, "tenant": TENANT, "channel": "email", "provider": "smtp",
        "account": "smtp-default", "address": "fang@example.com", "status": "sent", "class": "OK", "code": "250",
        "attempts": 1, **columns,
    }  # fmt: skip
    await _insert(pool, "delivery", row)


async def _insert(pool: asyncpg.Pool, table: str, row: Mapping[str, Any]) -> None:
    places = ", ".join(f"${i}" for i in range(1, len(row) + 1))
    await pool.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())


def codes(answer: httpx.Response) -> list[tuple[str, str]]:
    """(place, rule) of each field error."""
    return [
        (error.get("pointer", error.get("parameter", error.get("header"))), error["code"])
        for error in answer.json()["errors"]
    ]


async def at_once(calls: Iterable[Any]) -> list[httpx.Response]:
    return list(await asyncio.gather(*calls))
