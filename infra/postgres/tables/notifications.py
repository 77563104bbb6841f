"""Notifications, the record of each step, timelines, and idempotency keys; partitioned by time through UUIDv7 keys."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

idempotency = Table(
    "idempotency",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("app", primary_key=True),
    text_column("route", primary_key=True),
    text_column("key", primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("notification_id", Uuid),
    Column("answer", LargeBinary, nullable=False),
    now_column(),
)
Index("idempotency_age", idempotency.c.created_at)

notification = Table(
    "notification",
    metadata,
    Column("id", Uuid, primary_key=True),
    text_column("tenant"),
    text_column("app"),
    Column("lane", SmallInteger, nullable=False),
    text_column("category"),
    text_column("user_id", nullable=True),
    text_column("to_channel", nullable=True),
    text_column("to_address", nullable=True),
    Column("channels", ARRAY(Text), nullable=False),
    text_column("strategy"),
    text_column("template", nullable=True),
    Column("template_version", Integer),
    Column("content", JSON),
    Column("data", JSON),
    Column("metadata", JSON),
    Column("options", JSON),
    text_column("status"),
    Column("final", Boolean, nullable=False, server_default=text("false")),
    text_column("reason", nullable=True),
    Column("partial", Boolean, nullable=False, server_default=text("false")),
    Column("version", SmallInteger, nullable=False, server_default=text("1")),
    time_column("accepted_at", nullable=False),
    time_column("send_at"),
    time_column("expires_at", nullable=False),
    time_column("cancelled_at"),
    time_column("finished_at"),
    time_column("deleted_at"),
    Column("origin", Uuid),
    time_column("erased_at"),
    Column("digest", Uuid),
    postgresql_partition_by="RANGE (id)",
)
"""One notification. `user_id`, or `to_channel` and `to_address`: who it is for. `content`: inline, else `template` in the
version in force at accept. `options`: what accept pinned for plan and hand-over
(`infra.postgres.accept.accepting`). `final`: nothing more will be tried. `partial`: some channels arrived and some did
not. `version`: of the content, raised by an edit. `origin`: the one that it was made anew from. `deleted_at`: out of view.
`digest`: the one that carries it."""
Index("notification_tenant", notification.c.tenant, notification.c.id)
Index(
    "notification_user",
    notification.c.tenant,
    notification.c.user_id,
    notification.c.id,
    postgresql_where=notification.c.user_id.isnot(None),
)
Index(
    "notification_reason",
    notification.c.tenant,
    notification.c.reason,
    notification.c.id,
    postgresql_where=notification.c.reason.isnot(None),
)
"""What ended undelivered. Written at no accept, and at the end of none that arrives."""
Index("notification_partial", notification.c.tenant, notification.c.id, postgresql_where=notification.c.partial)
"""What arrived on some channels only. Written at no accept, and at the end of none that arrives whole."""
Index("notification_digest", notification.c.digest, notification.c.id, postgresql_where=notification.c.digest.isnot(None))
Index(
    "notification_collected",
    notification.c.tenant,
    notification.c.id,
    postgresql_where=text("(digest IS NOT NULL) IS TRUE"),
)
"""Its condition is not one that `digest = x` implies: with statistics from before the first digest, the planner would take
this index for that, and read all of it."""
Index(
    "notification_blocks",
    notification.c.app,
    notification.c.category,
    notification.c.template,
    notification.c.to_address,
    postgresql_using="brin",
    postgresql_ops={
        "app": "text_bloom_ops (n_distinct_per_range = 32)",
        "category": "text_bloom_ops (n_distinct_per_range = 32)",
        "template": "text_bloom_ops (n_distinct_per_range = 32)",
        "to_address": "text_bloom_ops (n_distinct_per_range = 400)",
    },
    postgresql_with={"pages_per_range": 16, "autosummarize": "on"},
)
"""Which blocks can hold a value: for what is rare. See decision 0015. `autosummarize` cannot be changed on a partitioned
index; each partition's is switched off (`infra.postgres.blocks`)."""

delivery = Table(
    "delivery",
    metadata,
    Column("notification_id", Uuid, primary_key=True),
    Column("n", SmallInteger, primary_key=True, autoincrement=False),
    text_column("tenant"),
    text_column("channel"),
    text_column("provider", nullable=True),
    text_column("account", nullable=True),
    text_column("address", nullable=True),
    text_column("status"),
    text_column("reason", nullable=True),
    text_column("class", nullable=True),
    text_column("code", nullable=True),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    text_column("provider_id", nullable=True),
    time_column("sent_at"),
    time_column("delivered_at"),
    time_column("read_at"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    time_column("receipt_until"),
    Column("rest", JSON),
    Column("lost", JSON),
    postgresql_partition_by="RANGE (notification_id)",
)
"""`receipt_until`: a receipt may still come for what was sent; NULL where none is expected (any more). `rest`: what is left
of it, should a receipt say that it failed (`infra.postgres.engine.chains`), or whoever had it in hand that it had not begun
(`infra.postgres.engine.never_left`). `lost`:
attempts that may have arrived; NULL where there are none (`infra.postgres.engine.lost_attempts`)."""
Index("delivery_receipt", delivery.c.receipt_until, postgresql_where=delivery.c.receipt_until.isnot(None))
Index("delivery_awaited", delivery.c.notification_id, postgresql_where=delivery.c.receipt_until.isnot(None))

event = Table(
    "event",
    metadata,
    Column("notification_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("n", SmallInteger, nullable=False),
    time_column("at", nullable=False),
    text_column("type"),
    Column("cohort", Uuid),
    Column("epoch", Integer),
    Column("detail", JSON),
    postgresql_partition_by="RANGE (notification_id)",
)
"""One line of a timeline, never changed. `n`: its step, 0 where it is of the whole notification. `cohort`, `epoch`: the
workflow that drove it then. `detail`: ids and codes only."""
