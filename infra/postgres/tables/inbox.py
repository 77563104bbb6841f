"""In-app messages and the tickets of their live stream."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, LargeBinary, SmallInteger, Table, Uuid, text

from infra.postgres.tables.parts import Xid8, metadata, now_column, text_column, time_column

inbox_item = Table(
    "inbox_item",
    metadata,
    Column("id", Uuid, primary_key=True),
    text_column("tenant"),
    text_column("user_id"),
    Column("notification_id", Uuid, nullable=False),
    Column("n", SmallInteger, nullable=False),
    text_column("title"),
    text_column("text"),
    text_column("url", nullable=True),
    text_column("category"),
    Column("data", JSON),
    time_column("expires_at", nullable=False),
    time_column("read_at"),
    time_column("archived_at"),
    now_column(),
    Column("changed_in", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    time_column("recalled_at"),
)
"""`changed_in` is the transaction that last changed the row: the live stream's cursor (commit order is not id order)."""
Index("inbox_item_delivery", inbox_item.c.notification_id, inbox_item.c.n, unique=True)
Index("inbox_item_user", inbox_item.c.tenant, inbox_item.c.user_id, inbox_item.c.id)
Index("inbox_item_changed", inbox_item.c.tenant, inbox_item.c.user_id, inbox_item.c.changed_in)

inbox_ticket = Table(
    "inbox_ticket",
    metadata,
    Column("ticket_hash", LargeBinary, primary_key=True),
    text_column("tenant"),
    text_column("user_id"),
    time_column("expires_at", nullable=False),
)
