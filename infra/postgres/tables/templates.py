"""Contents by version, and the routes of categories."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    Interval,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

template = Table(
    "template",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("name", primary_key=True),
    text_column("category", default=""),
    Column("latest_version", Integer, nullable=False, server_default=text("0")),
    Column("published_version", Integer),
    time_column("archived_at"),
    now_column(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

template_version = Table(
    "template_version",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("name", primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("variables", JSONB, nullable=False, server_default=text("'{}'")),
    Column("contents", JSONB, nullable=False),
    Column("example_data", JSONB, nullable=False, server_default=text("'{}'")),
    Column("created_by", Uuid),
    now_column(),
    ForeignKeyConstraint(["tenant", "name"], ["template.tenant", "template.name"], ondelete="CASCADE"),
)

category = Table(
    "category",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("name", primary_key=True),
    Column("channels", ARRAY(Text), nullable=False),
    text_column("strategy", default="all"),
    Column("fallback_after", Interval),
    Column("mandatory", Boolean, nullable=False, server_default=text("false")),
    now_column(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("send_window", JSONB(none_as_null=True)),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)
"""The route of notifications that name this category and no channels, and the hours of those in the low lane that name
none; accept writes both into the notification."""
