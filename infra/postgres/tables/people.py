"""Users of the API, their addresses, and addresses that are not to be written to."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, ForeignKeyConstraint, Index, Table, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB

from infra.postgres.tables.parts import metadata, now_column, text_column

person = Table(
    "person",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("id", primary_key=True),
    text_column("name", nullable=True),
    text_column("locale", default=""),
    text_column("time_zone", default=""),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    text_column("state", default="active"),
    text_column("merged_into", nullable=True),
    now_column(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)
"""A user of the API. `state`: active, deactivated, erased, merged."""

identity = Table(
    "identity",
    metadata,
    Column("id", Uuid, primary_key=True),
    text_column("tenant"),
    text_column("person_id"),
    text_column("channel"),
    text_column("address"),
    text_column("app", default=""),
    Column("verified", Boolean, nullable=False, server_default=text("false")),
    Column("is_primary", Boolean, nullable=False, server_default=text("false")),
    now_column(),
    ForeignKeyConstraint(["tenant", "person_id"], ["person.tenant", "person.id"], ondelete="CASCADE"),
)
Index(
    "identity_person",
    identity.c.tenant,
    identity.c.person_id,
    identity.c.channel,
    identity.c.address,
    identity.c.app,
    unique=True,
)
Index("identity_address", identity.c.tenant, identity.c.channel, identity.c.address)

suppression = Table(
    "suppression",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("channel", primary_key=True),
    text_column("address", primary_key=True),
    text_column("reason"),
    now_column(),
)
