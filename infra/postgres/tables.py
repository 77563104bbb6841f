"""Every table, as SQLAlchemy sees it. The migrations create them; a test holds the two against each other.

Personal data lives only in the columns that `PERSONAL` lists: erasing a person is one set of updates over that list.
Hot tables (`notification`, `work`, `cohort`, `delivery`, `event`) are written by the statements of their repositories.
`notification`, `delivery` and `event` are partitioned by time through their UUIDv7 key.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType

metadata = MetaData()

PERSONAL: dict[str, tuple[str, ...]] = {
    "person": ("name", "attributes"),
    "identity": ("address",),
    "suppression": ("address",),
    "notification": ("to_address", "content", "data", "metadata"),
    "work": ("address", "chain"),
    "delivery": ("address",),
    "inbox_item": ("title", "text", "url", "data"),
    "idempotency": ("answer",),
}
"""Table -> columns that may hold personal data. Nothing else may."""


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id; never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "XID8"


def _now() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def _time(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _text(name: str, *, primary_key: bool = False, nullable: bool = False, default: str | None = None) -> Column[str]:
    server_default = None if default is None else text(f"'{default}'")
    return Column(name, Text, primary_key=primary_key, nullable=nullable, server_default=server_default)


tenant = Table("tenant", metadata, _text("id", primary_key=True), _text("name"), _now())

app = Table(
    "app",
    metadata,
    _text("tenant", primary_key=True),
    _text("id", primary_key=True),
    _text("name"),
    _now(),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Uuid, primary_key=True),
    _text("tenant"),
    _text("app"),
    _text("name"),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    _text("hint"),
    Column("roles", ARRAY(Text), nullable=False),
    Column("created_by", Uuid),
    _now(),
    _time("expires_at"),
    _time("revoked_at"),
    ForeignKeyConstraint(["tenant", "app"], ["app.tenant", "app.id"]),
)
Index("api_key_tenant", api_key.c.tenant, api_key.c.id)

person = Table(
    "person",
    metadata,
    _text("tenant", primary_key=True),
    _text("id", primary_key=True),
    _text("name", nullable=True),
    _text("locale", default=""),
    _text("time_zone", default=""),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    _text("state", default="active"),
    _text("merged_into", nullable=True),
    _now(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)
"""A user of the API. `state`: active, deactivated, erased, merged."""

identity = Table(
    "identity",
    metadata,
    Column("id", Uuid, primary_key=True),
    _text("tenant"),
    _text("person_id"),
    _text("channel"),
    _text("address"),
    _text("app", default=""),
    Column("verified", Boolean, nullable=False, server_default=text("false")),
    Column("is_primary", Boolean, nullable=False, server_default=text("false")),
    _now(),
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
    _text("tenant", primary_key=True),
    _text("channel", primary_key=True),
    _text("address", primary_key=True),
    _text("reason"),
    _now(),
)

template = Table(
    "template",
    metadata,
    _text("tenant", primary_key=True),
    _text("name", primary_key=True),
    _text("category", default=""),
    Column("latest_version", Integer, nullable=False, server_default=text("0")),
    Column("published_version", Integer),
    _time("archived_at"),
    _now(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

template_version = Table(
    "template_version",
    metadata,
    _text("tenant", primary_key=True),
    _text("name", primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("variables", JSONB, nullable=False, server_default=text("'{}'")),
    Column("contents", JSONB, nullable=False),
    Column("example_data", JSONB, nullable=False, server_default=text("'{}'")),
    Column("created_by", Uuid),
    _now(),
    ForeignKeyConstraint(["tenant", "name"], ["template.tenant", "template.name"], ondelete="CASCADE"),
)

category = Table(
    "category",
    metadata,
    _text("tenant", primary_key=True),
    _text("name", primary_key=True),
    Column("channels", ARRAY(Text), nullable=False),
    _text("strategy", default="all"),
    Column("fallback_after", Interval),
    Column("mandatory", Boolean, nullable=False, server_default=text("false")),
    _now(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)
"""The route of notifications that name this category and no channels; accept writes it into the notification."""

idempotency = Table(
    "idempotency",
    metadata,
    _text("tenant", primary_key=True),
    _text("app", primary_key=True),
    _text("route", primary_key=True),
    _text("key", primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("notification_id", Uuid),
    Column("answer", LargeBinary, nullable=False),
    _now(),
)
Index("idempotency_age", idempotency.c.created_at)

notification = Table(
    "notification",
    metadata,
    Column("id", Uuid, primary_key=True),
    _text("tenant"),
    _text("app"),
    Column("lane", SmallInteger, nullable=False),
    _text("category"),
    _text("user_id", nullable=True),
    _text("to_channel", nullable=True),
    _text("to_address", nullable=True),
    Column("channels", ARRAY(Text), nullable=False),
    _text("strategy"),
    _text("template", nullable=True),
    Column("template_version", Integer),
    Column("content", JSON),
    Column("data", JSON),
    Column("metadata", JSON),
    Column("options", JSON),
    _text("status"),
    Column("final", Boolean, nullable=False, server_default=text("false")),
    _text("reason", nullable=True),
    Column("partial", Boolean, nullable=False, server_default=text("false")),
    Column("version", SmallInteger, nullable=False, server_default=text("1")),
    _time("accepted_at", nullable=False),
    _time("send_at"),
    _time("expires_at", nullable=False),
    _time("cancelled_at"),
    _time("finished_at"),
    _time("deleted_at"),
    Column("origin", Uuid),
    postgresql_partition_by="RANGE (id)",
)
Index("notification_tenant", notification.c.tenant, notification.c.id)
Index(
    "notification_user",
    notification.c.tenant,
    notification.c.user_id,
    notification.c.id,
    postgresql_where=notification.c.user_id.isnot(None),
)

work = Table(
    "work",
    metadata,
    Column("notification_id", Uuid, primary_key=True),
    Column("n", SmallInteger, primary_key=True, autoincrement=False),
    _text("tenant"),
    Column("lane", SmallInteger, nullable=False),
    _text("channel", nullable=True),
    _text("account", nullable=True),
    _text("address", nullable=True),
    _text("locale", nullable=True),
    Column("chain", JSON),
    _time("due_at", nullable=False),
    _time("expires_at", nullable=False),
    Column("state", SmallInteger, nullable=False, server_default=text("0")),
    Column("cohort", Uuid),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    Column("failures", SmallInteger, nullable=False, server_default=text("0")),
    Column("faults", SmallInteger, nullable=False, server_default=text("0")),
    Column("version", SmallInteger, nullable=False, server_default=text("1")),
    _time("start_by"),
    _time("unknown_at"),
    postgresql_with={"fillfactor": 50},
)
"""One open step. n = 0 is the plan. `state`: 0 open, 1 handing over.
`attempt` numbers the claims and fences outcomes; `failures` counts against the retry table; `faults` are our own."""
Index("work_due", work.c.lane, work.c.tenant, work.c.due_at, postgresql_where=text("cohort IS NULL AND state = 0"))
Index("work_cohort", work.c.cohort, postgresql_where=text("cohort IS NOT NULL"))
Index("work_unknown", work.c.unknown_at, postgresql_where=text("state = 1"))

cohort = Table(
    "cohort",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("lane", SmallInteger, nullable=False),
    _text("tenant", nullable=True),
    Column("epoch", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    _time("lease", nullable=False),
    Column("holding", Boolean, nullable=False, server_default=text("false")),
    _now(),
)
"""Notifications that one workflow drives. `tenant` is NULL where the lane mixes tenants."""
Index("cohort_lease", cohort.c.lease)

delivery = Table(
    "delivery",
    metadata,
    Column("notification_id", Uuid, primary_key=True),
    Column("n", SmallInteger, primary_key=True, autoincrement=False),
    _text("tenant"),
    _text("channel"),
    _text("provider", nullable=True),
    _text("account", nullable=True),
    _text("address", nullable=True),
    _text("status"),
    _text("reason", nullable=True),
    _text("class", nullable=True),
    _text("code", nullable=True),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    _text("provider_id", nullable=True),
    _time("sent_at"),
    _time("delivered_at"),
    _time("read_at"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    postgresql_partition_by="RANGE (notification_id)",
)

event = Table(
    "event",
    metadata,
    Column("notification_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("n", SmallInteger, nullable=False),
    _time("at", nullable=False),
    _text("type"),
    Column("cohort", Uuid),
    Column("epoch", Integer),
    Column("detail", JSON),
    postgresql_partition_by="RANGE (notification_id)",
)

inbox_item = Table(
    "inbox_item",
    metadata,
    Column("id", Uuid, primary_key=True),
    _text("tenant"),
    _text("user_id"),
    Column("notification_id", Uuid, nullable=False),
    Column("n", SmallInteger, nullable=False),
    _text("title"),
    _text("text"),
    _text("url", nullable=True),
    _text("category"),
    Column("data", JSON),
    _time("expires_at", nullable=False),
    _time("read_at"),
    _time("archived_at"),
    _now(),
    Column("changed_in", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
)
"""`changed_in` is the transaction that last changed the row: the live stream's cursor (commit order is not id order)."""
Index("inbox_item_delivery", inbox_item.c.notification_id, inbox_item.c.n, unique=True)
Index("inbox_item_user", inbox_item.c.tenant, inbox_item.c.user_id, inbox_item.c.id)
Index("inbox_item_changed", inbox_item.c.tenant, inbox_item.c.user_id, inbox_item.c.changed_in)

inbox_ticket = Table(
    "inbox_ticket",
    metadata,
    Column("ticket_hash", LargeBinary, primary_key=True),
    _text("tenant"),
    _text("user_id"),
    _time("expires_at", nullable=False),
)
