"""Tenants, their applications, and the keys these call with."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, ForeignKeyConstraint, Index, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

tenant = Table(
    "tenant",
    metadata,
    text_column("id", primary_key=True),
    text_column("name"),
    now_column(),
    text_column("time_zone", default=""),
    Column("send_window", JSONB(none_as_null=True)),
)

app = Table(
    "app",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("id", primary_key=True),
    text_column("name"),
    now_column(),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Uuid, primary_key=True),
    text_column("tenant"),
    text_column("app"),
    text_column("name"),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    text_column("hint"),
    Column("roles", ARRAY(Text), nullable=False),
    Column("created_by", Uuid),
    now_column(),
    time_column("expires_at"),
    time_column("revoked_at"),
    ForeignKeyConstraint(["tenant", "app"], ["app.tenant", "app.id"]),
)
Index("api_key_tenant", api_key.c.tenant, api_key.c.id)
