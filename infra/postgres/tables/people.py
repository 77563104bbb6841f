"""Users of the API, their addresses and devices, their erasures, and addresses that are not to be written to."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

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
    Column("id", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
)
"""`address` is the address, or a digest of it once its owner was erased (`infra.postgres.users.suppressions`)."""
Index("suppression_id", suppression.c.tenant, suppression.c.id, unique=True)

suppression_pepper = Table(
    "suppression_pepper",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    text_column("value"),
)
"""One row, made once: what digests of addresses are made with. It never changes, or they would match nothing."""

device = Table(
    "device",
    metadata,
    Column("id", Uuid, primary_key=True),
    text_column("tenant"),
    text_column("person_id"),
    text_column("kind"),
    Column("token_hash", LargeBinary, nullable=False),
    text_column("token"),
    Column("keys", JSONB, nullable=False, server_default=text("'{}'")),
    text_column("app", default=""),
    text_column("locale", default=""),
    text_column("state", default="active"),
    now_column(),
    Column("last_seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant", "person_id"], ["person.tenant", "person.id"], ondelete="CASCADE"),
)
"""Where a user can be pushed to. `token`: a platform's device token, or a web push subscription's endpoint."""
Index("device_person", device.c.tenant, device.c.person_id)
Index("device_token", device.c.tenant, device.c.kind, device.c.token_hash, unique=True)

erasure = Table(
    "erasure",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("person_id", primary_key=True),
    Column("requested_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("requested_by", Uuid),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    time_column("pass_at"),
    Column("cursor", Uuid),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'")),
    time_column("finished_at"),
    ForeignKeyConstraint(["tenant", "person_id"], ["person.tenant", "person.id"], ondelete="CASCADE"),
)
"""How far the erasure of a user is: `cursor` is the last notification that this pass, begun at `pass_at`, has done."""
Index("erasure_due", erasure.c.due_at, postgresql_where=erasure.c.finished_at.is_(None))
