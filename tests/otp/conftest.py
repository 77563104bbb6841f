"""The real API over a real database, and a worker's hand-over in memory: a code is read where its recipient reads it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from temporalio.testing import ActivityEnvironment

from activities.handing_over.codes import CodeMessages
from activities.handing_over.contents import TemplateContents
from api.accept.otp import OtpService
from api.otp_parts import policy_of
from channels.base import Message
from domain.channels import Channel
from domain.clock import Clock
from domain.lanes import Lane
from domain.otp import Limit, Policy, Scope
from infra.clock import SYSTEM_CLOCK, ManualClock
from infra.otp_codes import OtpCodes
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.otp import OtpRepository
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.digests import DigestRepository
from infra.rendering.catalog import TemplateCatalog
from tests.api.conftest import Api, make_keys, running
from tests.engine.driving import activities, drive
from tests.engine.support import Engine

TO = {"email": "fang@example.com"}
COHORT = """
SELECT c.id, c.lane, c.epoch, c.tenant FROM work w JOIN cohort c ON c.id = w.cohort WHERE w.notification_id = $1"""


@dataclass
class Otp:
    """The service as an application sees it, with a look behind the scenes."""

    api: Api
    engine: Engine

    async def make(self, to: Mapping[str, str] = TO, **fields: Any) -> httpx.Response:
        rest = {name: fields.pop(name) for name in ("once", "key") if name in fields}
        return await self.api.post("/v1/otp", {"to": dict(to), **fields}, **rest)

    async def made(self, to: Mapping[str, str] = TO, **fields: Any) -> dict[str, Any]:
        answer = await self.make(to, **fields)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def sent(self, to: Mapping[str, str] = TO, **fields: Any) -> tuple[str, str]:
        """A code that has arrived: its id, and the code as the recipient reads it."""
        made = await self.made(to, **fields)
        return made["id"], code_in(await self.delivered(made["notification_id"]))

    async def verify(self, otp_id: str, code: str, **rest: Any) -> httpx.Response:
        return await self.api.post(f"/v1/otp/{otp_id}/verify", {"code": code}, **rest)

    async def verdict(self, otp_id: str, code: str) -> str:
        answer = await self.verify(otp_id, code)
        if answer.status_code == 200:
            assert answer.json() == {"verified": True}
            return "verified"
        assert answer.status_code == 422, answer.text
        found: str = answer.json()["code"]
        return found

    async def resend(self, otp_id: str, **rest: Any) -> httpx.Response:
        return await self.api.post(f"/v1/otp/{otp_id}/resend", **rest)

    async def delivered(self, notification_id: str) -> Message:
        """What the provider was handed for it."""
        before = sum(len(provider.sent) for provider in self.engine.providers.values())
        await self.drive(notification_id)
        messages = [m for provider in self.engine.providers.values() for m in provider.sent]
        assert len(messages) > before, "nothing was sent"
        return next(m for m in reversed(messages) if str(m.notification_id) == notification_id)

    async def drive(self, notification_id: str, *, secret_key: str | None = None) -> None:
        """As the workflow does; Temporal is away."""
        container = self.api.container
        codes = OtpCodes(container.settings.secret_key.get_secret_value() if secret_key is None else secret_key)
        messages = CodeMessages(OtpRepository(self.api.pool), codes)
        digests = DigestRepository(container.database.pool)
        contents = TemplateContents(TemplateCatalog(container.database), codes=messages, digests=digests)
        cohort = await self.cohort(UUID(notification_id))
        await ActivityEnvironment().run(activities(self.engine, contents=contents).deliver, drive(cohort))

    async def cohort(self, notification_id: UUID) -> CohortRow:
        """The API's starter makes one, unless it pauses because Temporal is away."""
        while (row := await self.api.pool.fetchrow(COHORT, notification_id)) is None:
            await self.engine.cohorts.group(Lane.HIGH)
        return CohortRow(row["id"], row["epoch"], Lane(row["lane"]), row["tenant"])

    def limit(self, **limits: Limit | None) -> None:
        """These limits instead of the settings'; None is none."""
        container = self.api.container
        changed = dict(policy_of(container.settings).limits)
        for name, limit in limits.items():
            changed.pop(Scope(name), None)
            if limit is not None:
                changed[Scope(name)] = limit
        container.otp = OtpService(
            OtpRepository(self.api.pool),
            AcceptRepository(self.api.pool),
            accept=container.accept,
            codes=OtpCodes(container.settings.secret_key.get_secret_value()),
            policy=Policy(changed),
        )

    def unlimited(self) -> None:
        self.limit(**dict.fromkeys(Scope, None))

    async def count(self, table: str) -> int:
        return await self.api.count(table)


def code_in(message: Message) -> str:
    match = re.search(r"\d{4,10}", message.content.text)
    assert match is not None, message.content.text
    return match[0]


def wrong(code: str) -> str:
    """Another code of the same length."""
    return str((int(code) + 1) % 10 ** len(code)).zfill(len(code))


@pytest.fixture
async def otp(database: str) -> AsyncIterator[Otp]:
    async with _running(database) as made:
        yield made


@pytest.fixture
async def timed_otp(database: str, clock: ManualClock) -> AsyncIterator[Otp]:
    """The API's clock is the test's `clock`; PostgreSQL's, by which codes live, goes on by itself."""
    async with _running(database, clock=clock) as made:
        yield made


@contextlib.asynccontextmanager
async def _running(database: str, *, clock: Clock = SYSTEM_CLOCK) -> AsyncIterator[Otp]:
    async with running(database, clock=clock) as api:
        api.keys = await make_keys(database)
        made = Otp(api, Engine.over(api.pool))
        assert Channel.EMAIL in made.engine.providers
        yield made
