"""Provider accounts of tenants, and how accounts do in the worker processes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    Interval,
    LargeBinary,
    SmallInteger,
    Table,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

provider_account = Table(
    "provider_account",
    metadata,
    text_column("id", primary_key=True),
    text_column("tenant"),
    text_column("name"),
    text_column("provider"),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'")),
    Column("sealed", LargeBinary),
    text_column("key_id", nullable=True),
    Column("place", Integer, nullable=False, server_default=text("0")),
    Column("cost", DOUBLE_PRECISION, nullable=False, server_default=text("0")),
    Column("weight", Integer, nullable=False, server_default=text("1")),
    Column("rate_per_second", DOUBLE_PRECISION),
    Column("receipt_within", Interval),
    time_column("paused_at"),
    Column("version", Integer, nullable=False, server_default=text("1")),
    now_column(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)
"""`id` is what `work.account` names. `settings`: what may be shown; `sealed`: the secrets among them, encrypted for this
account alone under the key that `key_id` names. `place` is the API's `order`."""
Index("provider_account_name", provider_account.c.tenant, provider_account.c.name, unique=True)

provider_change = Table(
    "provider_change",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
"""One row, raised in the transaction of each change: a process that sees the number sees the change."""

worker = Table(
    "worker",
    metadata,
    Column("process", Uuid, primary_key=True),
    text_column("name"),
    Column("accounts_version", BigInteger, nullable=False),
    time_column("at", nullable=False),
    now_column(),
    postgresql_with={"fillfactor": 50},
)
"""A worker process that lives: `at` is its last sign, `accounts_version` the change that it has seen."""

account_health = Table(
    "account_health",
    metadata,
    text_column("account", primary_key=True),
    Column("process", Uuid, primary_key=True),
    text_column("circuit"),
    time_column("retry_at"),
    Column("slow_share", DOUBLE_PRECISION, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    time_column("succeeded_at"),
    time_column("failed_at"),
    text_column("failure", nullable=True),
    text_column("problem", nullable=True),
    time_column("at", nullable=False),
    postgresql_with={"fillfactor": 50},
)
"""How an account does in one process, as of `at`; written when it has changed. `failure` is a code, never a text."""
Index("account_health_process", account_health.c.process)
