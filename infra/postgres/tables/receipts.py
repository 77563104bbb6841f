"""What providers report of the messages that they took."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, SmallInteger, Table, Uuid, text

from infra.postgres.tables.parts import metadata, text_column, time_column

receipt_inbox = Table(
    "receipt_inbox",
    metadata,
    text_column("account", primary_key=True),
    text_column("provider_id", primary_key=True),
    Column("notification_id", Uuid),
    Column("n", SmallInteger),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    text_column("status", nullable=True),
    text_column("class", nullable=True),
    text_column("code", nullable=True),
    time_column("delivered_at"),
    time_column("read_at"),
    time_column("failed_at"),
    Column("told", Boolean, nullable=False, server_default=text("true")),
    time_column("until", nullable=False),
    postgresql_with={"fillfactor": 70},
)
"""One message, by its provider's id. Both write it, whoever is first: our own record, which knows the step
(`notification_id`, `n`, `attempt`), and receipts. `status`: the best evidence, NULL where nothing is known; `told`: the
step knows it; `until`: when the row may go."""
Index("receipt_inbox_step", receipt_inbox.c.notification_id, receipt_inbox.c.n)
Index("receipt_inbox_age", receipt_inbox.c.until)
