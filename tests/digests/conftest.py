"""The real API over a real database, and the delivery activity over the same one, with a provider that remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from temporalio.testing import ActivityEnvironment

from activities.grouping import Starter
from activities.handing_over.codes import CodeMessages
from activities.handing_over.contents import TemplateContents
from domain.channels import Channel
from domain.lanes import Lane
from domain.quiet_hours import QuietHours
from infra.otp_codes import OtpCodes
from infra.postgres.accept.otp import OtpRepository
from infra.postgres.engine.digests import DigestRepository
from infra.postgres.engine.locks import Connection, retried
from tests.accept.conftest import Api, api
from tests.engine.driving import activities, drive
from tests.engine.support import Engine

__all__ = ["api"]

MINUTES = {"window": "PT10M"}


@dataclass
class Office:
    """One user, u-1, who is written to about comments."""

    api: Api
    engine: Engine

    @property
    def pool(self) -> asyncpg.Pool:
        return self.api.pool

    @property
    def texts(self) -> list[str]:
        return [message.content.text for message in self.engine.providers[Channel.EMAIL].sent]

    def wish(self, n: int, **changes: Any) -> dict[str, Any]:
        """A comment, collected with the others of its post; None leaves a field out."""
        whole = {
            "to": {"user": "u-1"}, "channels": ["email"], "template": "comments", "data": {"n": n},
            "digest": {"key": "post-7", **MINUTES}, **changes,
        }  # fmt: skip
        return {name: value for name, value in whole.items() if value is not None}

    async def posted(self, n: int, *, key: str | None = None, **changes: Any) -> UUID:
        answer = await self.api.post(self.wish(n, **changes), key=key)
        assert answer.status_code in (200, 202), answer.text
        return UUID(answer.json()["id"])

    async def batch(self, items: Sequence[dict[str, Any]], *, key: str | None = None) -> list[dict[str, Any]]:
        answer = await self.api.post({"notifications": items}, path="/v1/notifications/batch", key=key)
        assert answer.status_code in (200, 202), answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    async def read(self, notification_id: UUID) -> dict[str, Any]:
        answer = await self.api.http.get(f"/v1/notifications/{notification_id}")
        found: dict[str, Any] = answer.json()
        return found

    async def listed(self, **filters: str) -> list[UUID]:
        answer = await self.api.http.get("/v1/notifications", params=filters)
        return [UUID(item["id"]) for item in answer.json()["items"]]

    async def state(self, notification_id: UUID) -> tuple[str, str | None]:
        found = await self.read(notification_id)
        return found["status"], found["reason"]

    async def told(self, notification_id: UUID, kind: str) -> list[dict[str, Any]]:
        """Details of its events of this type."""
        found = await self.api.http.get(f"/v1/notifications/{notification_id}/timeline")
        return [event["detail"] for event in found.json()["items"] if event["type"] == kind]

    async def call(self, notification_id: UUID, action: str) -> dict[str, Any]:
        answer = await self.api.http.post(f"/v1/notifications/{notification_id}/{action}")
        found: dict[str, Any] = answer.json()
        return found

    async def deliver(self, *, over: asyncpg.Pool | None = None) -> None:
        """Everything that is due, as the workers do it."""
        codes = CodeMessages(OtpRepository(self.pool), OtpCodes("0123456789abcdef" * 2))
        contents = TemplateContents(self.api.container.catalog, codes=codes, digests=DigestRepository(self.pool))
        activity = activities(self.engine, contents=contents, pool=over)
        for lane in Lane:
            while (cohort := await self.engine.cohorts.group(lane)) is not None:
                await ActivityEnvironment().run(activity.deliver, drive(cohort))

    async def quiet(self) -> None:
        """The user's quiet hours have begun."""
        await self.engine.prefers("u-1", quiet_hours=QuietHours(*around_now()))

    async def loud(self) -> None:
        """They are over, and morning has come."""
        await self.pool.execute("DELETE FROM preference")
        await retried(self.pool, _windows_end)

    async def expire(self, *ids: UUID) -> None:
        """The time of these has run out."""
        await self.pool.execute("UPDATE notification SET expires_at = now() WHERE id = ANY ($1)", ids)
        await self.pool.execute("UPDATE work SET expires_at = now() WHERE notification_id = ANY ($1)", ids)

    async def again(self) -> None:
        """What waits for a retry is due, and tried."""
        await self.pool.execute("UPDATE work SET due_at = now(), cohort = NULL; DELETE FROM cohort")
        await self.deliver()

    async def close(self) -> None:
        """The windows of all digests have ended, and what they hold is delivered."""
        await retried(self.pool, _windows_end)
        await self.deliver()


def around_now() -> tuple[time, time]:
    """From an hour ago to two hours from now, by the clock of UTC."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return (now - timedelta(hours=1)).time(), (now + timedelta(hours=2)).time()


async def _windows_end(connection: Connection) -> None:
    """A writer that the service does not have: it takes rows in no order, and is tried again where it loses a race."""
    await connection.execute("UPDATE work SET due_at = now() - interval '1 second' WHERE state = 0")
    await connection.execute("UPDATE digest SET until = now() - interval '1 second'")


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API groups nothing by itself: a test says when something is driven."""
    monkeypatch.setattr(Starter, "poke", lambda *_: None)
    monkeypatch.setattr(Starter, "accepted", lambda *_: None)


@pytest.fixture
async def office(api: Api) -> Office:
    engine = Engine.over(api.pool)
    await api.pool.execute(
        "INSERT INTO identity (id, tenant, person_id, channel, address) "
        "VALUES (gen_random_uuid(), 'acme', 'u-1', 'email', 'u-1@example.com')"
    )
    await publish(api, "comments", "{{ count }}:{% for item in items %} {{ item.n }}{% endfor %}")
    return Office(api, engine)


async def publish(api: Api, name: str, text: str, *, version: int = 1) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "items": {}, "count": {}}}
    contents = {"en": {"default": {"title": "Comments", "text": text}}}
    await api.pool.execute(
        "INSERT INTO template (tenant, name, category, latest_version, published_version) "
        "VALUES ('acme', $1, 'posts', $2, $2) "
        "ON CONFLICT (tenant, name) DO UPDATE SET latest_version = $2, published_version = $2", name, version,
    )  # fmt: skip
    await api.pool.execute(
        "INSERT INTO template_version (tenant, name, version, variables, contents) VALUES ('acme', $1, $2, $3, $4)",
        name, version, msgspec.json.encode(schema).decode(), msgspec.json.encode(contents).decode(),
    )  # fmt: skip
