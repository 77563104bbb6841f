"""GET /v1/inbox/stream: a user's inbox, live, as server-sent events.

    retry: 3000
    event: unread     data: {"unread": 3}     once, on connecting
    event: resync     data: {}                the list has to be read again: no, or too old a position; too much at once
    event: item       data: an item           new, or changed (read, unread, archived) here or on another device
    event: recalled   data: {"id", "notification_id"}   it is to vanish; also for what this reader never had

Connect first, then read the list: what comes in between is in both, and items are recognised by their `id`. Every event has
a position as its `id:`; a connection opened with the last one continues there. Nothing is left out, and an item may come
twice. A ticket is good for one connection: a client that lost its connection makes a new ticket and gives the position as
`last_event_id` (EventSource's own reconnect, with the old ticket, ends with 401).
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from api.routes.inbox import Owner, Parts, by_token
from api.routes.inbox_shapes import Item
from api.sse import EventStream, event, heartbeat, retry
from domain.errors import Unavailable
from infra.postgres.inbox.feed import Batch, InboxFeed, StreamEnded
from infra.postgres.inbox.items import InboxEntry

router = APIRouter(prefix="/v1/inbox", tags=["inbox (user token)"])

HEARTBEAT_S = 15.0
LIFE_S = 3600.0
"""Then it ends, and the client proves with a new ticket that it may still read."""
RETRY_MS = 3000


@router.get(
    "/stream",
    status_code=200,
    summary="My messages, live",
    response_class=EventStream,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events: unread, item, recalled, resync"}
    },
)
async def stream(
    request: Request,
    parts: Parts,
    ticket: Annotated[str | None, Query(max_length=200, description="From POST /v1/inbox/tickets.")] = None,
    last_event_id: Annotated[str | None, Query(max_length=4000, description="Continue behind this position.")] = None,
    last_event_header: Annotated[str | None, Header(alias="Last-Event-ID", max_length=4000)] = None,
) -> Response:
    """With a ticket, or with `Authorization: Bearer <user token>` where the client can send headers."""
    if ticket is None:
        owner = await by_token(request, parts)
    else:
        owner = Owner(*await parts.tickets.redeem(ticket))
    cursor = last_event_header or last_event_id
    return EventStream(_events(parts.feed, owner, cursor=cursor))


async def _events(feed: InboxFeed, owner: Owner, *, cursor: str | None) -> AsyncGenerator[bytes, None]:
    try:
        subscription = await feed.subscribe(owner.tenant, owner.user_id, cursor=cursor)
    except StreamEnded:
        raise Unavailable("This server is shutting down: connect again.") from None
    ends_at = time.monotonic() + LIFE_S
    try:
        opening = retry(RETRY_MS) + event(
            name="unread", data=f'{{"unread": {subscription.unread}}}', cursor=subscription.cursor
        )
        yield opening if subscription.resumed else opening + event(name="resync", data="{}")
        while time.monotonic() < ends_at:
            batch = await subscription.next(timeout_s=HEARTBEAT_S)
            yield heartbeat(subscription.cursor) if batch is None else _shown(batch)
    except StreamEnded:
        return
    finally:
        feed.unsubscribe(subscription)


def _shown(batch: Batch) -> bytes:
    """Only the last event moves the position: a reader who is cut off before it gets the whole batch again."""
    if batch.too_many:
        return event(name="resync", data="{}", cursor=batch.after)
    last = len(batch.entries) - 1
    return b"".join(
        _one(entry, cursor=batch.after if place == last else batch.before) for place, entry in enumerate(batch.entries)
    )


def _one(entry: InboxEntry, *, cursor: str) -> bytes:
    if entry.recalled_at is not None:
        data = {"id": str(entry.id), "notification_id": str(entry.notification_id)}
        return event(name="recalled", data=json.dumps(data), cursor=cursor)
    return event(name="item", data=Item.of(entry).model_dump_json(), cursor=cursor)
