"""What the inbox routes are made of, opened and closed with the container."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from domain.clock import Clock
from infra.postgres.database import Database
from infra.postgres.inbox.feed import InboxFeed
from infra.postgres.inbox.items import Inbox
from infra.postgres.inbox.tickets import InboxTickets
from infra.settings import Settings
from infra.user_tokens import UserTokens


@dataclass(frozen=True, slots=True)
class InboxParts:
    store: Inbox
    feed: InboxFeed
    tickets: InboxTickets
    tokens: UserTokens
    clock: Clock


@contextlib.asynccontextmanager
async def open_inbox(
    settings: Settings, *, database: Database, stopping: asyncio.Event, clock: Clock
) -> AsyncIterator[InboxParts]:
    """Streams end as soon as `stopping` is set: the server waits for open responses before it closes anything."""
    feed = InboxFeed(database, database_url=settings.database_url.get_secret_value())
    tokens = UserTokens(settings.secret_key.get_secret_value(), others=settings.other_keys, clock=clock)
    parts = InboxParts(Inbox(database), feed, InboxTickets(database), tokens, clock)

    async def end_streams() -> None:
        await stopping.wait()
        feed.stop()

    watching = asyncio.create_task(end_streams(), name="inbox-stop")
    try:
        yield parts
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await feed.close()
