"""Rows that an inbox test needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from pydantic import SecretStr

from channels.base import InboxItem
from domain.ids import uuid7
from infra.postgres.database import Database
from infra.postgres.inbox.items import Inbox
from infra.settings import Settings

TENANT = "acme"


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(database_url=SecretStr(database), secret_key=SecretStr("s" * 32))


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    """An open database with two tenants that each have a user u-1 and u-2."""
    opened = await Database.open(settings, name="tests")
    for tenant in (TENANT, "other"):
        await opened.pool.execute("INSERT INTO tenant (id, name) VALUES ($1, $1)", tenant)
        await opened.pool.executemany("INSERT INTO person (tenant, id) VALUES ($1, $2)", [(tenant, "u-1"), (tenant, "u-2")])
    yield opened
    await opened.close()


@pytest.fixture
def inbox(db: Database) -> Inbox:
    return Inbox(db)


def item(title: str, *, user: str = "u-1", tenant: str = TENANT, notification: UUID | None = None) -> InboxItem:
    return InboxItem(
        notification_id=notification or uuid7(),
        n=1,
        tenant=tenant,
        user_id=user,
        title=title,
        text="Text",
        url=None,
        category="orders",
        data={},
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )


async def delivered(db: Database, *, title: str = "Hello", user: str = "u-1", recorded: bool = True) -> UUID:
    """A notification that has ended as `delivered` in-app, or (not recorded) whose outcome is not flushed yet."""
    stored = item(title, user=user)
    await db.pool.execute(
        """INSERT INTO notification (id, tenant, app, lane, category, user_id, channels, strategy, status, final,
                                     accepted_at, expires_at)
           VALUES ($1, $2, 'shop', 1, 'orders', $3, '{inapp}', 'all', $4, $5, now(), now() + interval '1 day')""",
        stored.notification_id, TENANT, user, "delivered" if recorded else "processing", recorded,
    )  # fmt: skip
    if recorded:
        await db.pool.execute(
            """INSERT INTO delivery (notification_id, n, tenant, channel, status, sent_at, delivered_at)
               VALUES ($1, 1, $2, 'inapp', 'delivered', now(), now())""",
            stored.notification_id, TENANT,
        )  # fmt: skip
    else:
        await db.pool.execute(
            """INSERT INTO work (notification_id, n, tenant, lane, due_at, expires_at, state)
               VALUES ($1, 1, $2, 1, now(), now() + interval '1 day', 1)""",
            stored.notification_id, TENANT,
        )  # fmt: skip
    await Inbox(db).store([stored])
    return stored.notification_id
