"""Inboxes as the API shows them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from infra.postgres.inbox.items import InboxEntry

EXAMPLE: dict[str, Any] = {
    "id": "01a20a24-32c7-72a6-a357-37e5a031e57e",
    "notification_id": "01a20a24-32c3-77e3-a6fc-9946e9bcc9f4",
    "title": "订单 A-77 已发货",
    "text": "王芳，您的订单 A-77 已发货。",
    "url": "https://shop.example/orders/A-77",
    "category": "orders",
    "data": {"order": "A-77"},
    "created_at": "2026-12-01T01:00:00.000000Z",
    "read_at": None,
    "archived_at": None,
    "expires_at": "2026-12-02T01:00:00.000000Z",
}


class Item(BaseModel):
    """A message in an inbox; also the data of the stream's `item` events."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: UUID
    notification_id: UUID
    title: str
    text: str
    url: str | None
    category: str
    data: dict[str, Any]
    created_at: datetime
    read_at: datetime | None
    archived_at: datetime | None
    expires_at: datetime
    """Until when the sender wanted it delivered: what it tells may be over. It stays in the inbox."""

    @classmethod
    def of(cls, entry: InboxEntry) -> Item:
        return cls(
            id=entry.id, notification_id=entry.notification_id, title=entry.title, text=entry.text, url=entry.url,
            category=entry.category, data=dict(entry.data or {}), created_at=entry.created_at, read_at=entry.read_at,
            archived_at=entry.archived_at, expires_at=entry.expires_at,
        )  # fmt: skip


class Items(BaseModel):
    items: list[Item]
    next_cursor: str | None
    unread: int
    """Neither read nor archived, in the whole inbox."""


class InboxQuery(BaseModel):
    """What to list."""

    model_config = ConfigDict(extra="forbid")

    unread: bool = Field(default=False, description="Only what was not read.")
    archived: bool = Field(default=False, description="The archive instead of the inbox.")
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = Field(default=None, max_length=100)


class AllRead(BaseModel):
    marked: int
    unread: int


class NewToken(BaseModel):
    """What `POST .../tokens` takes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"expires_in": "PT1H"}]})

    expires_in: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        le=timedelta(hours=24),
        description="ISO 8601 duration or seconds, at most 24 hours.",
    )


class Token(BaseModel):
    token: str
    expires_at: datetime


class Ticket(BaseModel):
    ticket: str
    expires_at: datetime
