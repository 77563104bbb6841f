"""The API on a real port, the sandbox's hooks, and what a worker does, without Temporal."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from standardwebhooks import Webhook
from temporalio.testing import ActivityEnvironment

import sandbox
from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from channels.webhook.standard import WebhookProvider
from domain.channels import Channel
from domain.lanes import Lane
from infra.email_accounts import WEBHOOK_DEFAULT
from infra.http import HttpClient
from infra.secrets import receipt_path, webhook_secret
from tests.api.conftest import make_keys, settings_for
from tests.engine.driving import activities
from tests.engine.support import Engine
from tests.inbox.server import RunningApi, running
from workflows.delivery import Drive

KEY = "0123456789abcdef" * 2
UNGROUPED = "SELECT EXISTS (SELECT FROM work WHERE cohort IS NULL AND state = 0 AND due_at <= now())"
SECRET = webhook_secret(KEY, "acme")
OTHERS_SECRET = webhook_secret(KEY, "globex")


@dataclass
class Post:
    """A receiver with its signing secret."""

    http: httpx.AsyncClient
    path: str

    async def __call__(
        self,
        body: Any,
        *,
        secret: str = SECRET,
        path: str | None = None,
        at: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        name, moment = f"rcpt_{uuid4().hex}", datetime.fromtimestamp(int(at or time.time()), tz=UTC)
        signed = {
            "webhook-id": name,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": Webhook(secret).sign(name, moment, raw.decode(errors="replace")),
        }
        return await self.http.post(path or self.path, content=raw, headers=signed | dict(headers or {}))


@dataclass
class Site:
    """All of it."""

    api: RunningApi
    http: httpx.AsyncClient
    box: sandbox.Box
    engine: Engine
    accounts: Accounts
    mail: MemoryProvider
    post: Post
    keys: dict[str, str]

    async def send(self, hook: str, **fields: Any) -> UUID:
        """A webhook, then e-mail where a chain is asked for; accepted over the API and handed over once."""
        one = await self.accept(hook, **fields)
        await self.drive()
        return one

    async def accept(self, hook: str, *, key: str = "owner", **fields: Any) -> UUID:
        to = {"channel": "webhook", "address": f"{self.box.http_url}/hook/{hook}"}
        body = {"to": to, "content": {"text": "Hello"}} | fields
        answer = await self.http.post("/v1/notifications", json=body, headers=self.auth(key))
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["id"])

    async def user(self, hook: str) -> str:
        """Somebody with a hook and a mailbox."""
        name = f"u-{uuid4().hex[:8]}"
        identities = [
            {"channel": "webhook", "address": f"{self.box.http_url}/hook/{hook}"},
            {"channel": "email", "address": f"{name}@example.com"},
        ]
        made = await self.http.post("/v1/users", json={"id": name, "identities": identities}, headers=self.auth())
        assert made.status_code == 201, made.text
        return name

    def auth(self, key: str = "owner") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[key]}"}

    async def drive(self) -> None:
        """Group what the API has not grouped, and drive every cohort once, as its workflow would."""
        while await self.engine.pool.fetchval(UNGROUPED):  # what the API is grouping just now is nobody's until it has
            for lane in Lane:
                await self.engine.cohorts.group(lane)
        parts = activities(self.engine, accounts=self.accounts)
        for row in await self.engine.pool.fetch("SELECT id, epoch, lane FROM cohort"):
            await ActivityEnvironment().run(parts.deliver, Drive(str(row["id"]), row["epoch"], row["lane"], None))

    async def seen(self, one: UUID) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/notifications/{one}", headers=self.auth())
        found: dict[str, Any] = answer.json()
        return found

    async def timeline(self, one: UUID) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/v1/notifications/{one}/timeline", headers=self.auth())
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    async def until(self, one: UUID, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        found: dict[str, Any] = await eventually(lambda: self.seen(one), what)
        return found


async def eventually(look: Callable[[], Awaitable[Any]], what: Callable[[Any], bool], *, within_s: float = 30) -> Any:
    end = time.monotonic() + within_s
    while not what(found := await look()):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)
    return found


@pytest.fixture
async def site(module_database: str) -> AsyncIterator[Site]:
    settings = settings_for(module_database).model_copy(
        update={"webhook_receipts": True, "webhook_allow_networks": ("127.0.0.0/8",)}
    )
    path = receipt_path(KEY, provider="webhook", account=WEBHOOK_DEFAULT)
    keys = await make_keys(module_database)
    async with running(settings) as api, sandbox.running(webhook_secret=SECRET) as box:
        http_out = HttpClient(connections=4, allow_networks=("127.0.0.0/8",))
        hook = WebhookProvider(http_out, secret_for=lambda tenant: webhook_secret(KEY, tenant), reply_to=api.url + path)
        mail = MemoryProvider(channel=Channel.EMAIL)
        accounts = Accounts([Account(WEBHOOK_DEFAULT, hook, Slots(4)), Account("mail", mail, Slots(4))])
        engine = Engine(api.container.database.pool, {}, accounts)
        async with httpx.AsyncClient(base_url=api.url) as http:
            yield Site(api, http, box, engine, accounts, mail, Post(http, path), keys)
        await engine.pool.execute("DELETE FROM work; DELETE FROM cohort")
        await http_out.close()
