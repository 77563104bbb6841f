"""Open steps and the cohorts that workflows drive: small tables that change constantly."""

from __future__ import annotations

from sqlalchemy import ARRAY, JSON, Boolean, Column, Float, Index, Integer, SmallInteger, Table, Text, Uuid, text

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

work = Table(
    "work",
    metadata,
    Column("notification_id", Uuid, primary_key=True),
    Column("n", SmallInteger, primary_key=True, autoincrement=False),
    text_column("tenant"),
    Column("lane", SmallInteger, nullable=False),
    text_column("channel", nullable=True),
    text_column("account", nullable=True),
    text_column("address", nullable=True),
    text_column("locale", nullable=True),
    Column("chain", JSON),
    time_column("due_at", nullable=False),
    time_column("expires_at", nullable=False),
    Column("state", SmallInteger, nullable=False, server_default=text("0")),
    Column("cohort", Uuid),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    Column("failures", SmallInteger, nullable=False, server_default=text("0")),
    Column("faults", SmallInteger, nullable=False, server_default=text("0")),
    Column("version", SmallInteger, nullable=False, server_default=text("1")),
    time_column("start_by"),
    time_column("unknown_at"),
    Column("tried", ARRAY(Text)),
    Column("awaiting", Boolean, nullable=False, server_default=text("false")),
    text_column("receipt", nullable=True),
    time_column("falls_back_at"),
    postgresql_with={"fillfactor": 50},
)
"""One open step. n = 0 is the plan. `attempt` numbers the claims and fences outcomes; `failures` counts against the retry
table; `faults` are our own. `falls_back_at`: a place of a chain that nobody has taken by then waits no longer for an
account that takes nothing; none where it may be there already. What `state`, `awaiting`, `receipt` and `tried` say, and
which of their values stand together: `domain/work_row.py`."""
Index("work_due", work.c.lane, work.c.tenant, work.c.due_at, postgresql_where=text("cohort IS NULL AND state = 0"))
Index(
    "work_turn",
    work.c.lane,
    text("date_bin('00:15:00'::interval, due_at, '2000-01-01 00:00:00+00'::timestamp with time zone)"),
    work.c.tenant,
    postgresql_where=text("cohort IS NULL AND state = 0"),
)
Index("work_cohort", work.c.cohort, postgresql_where=text("cohort IS NOT NULL"))
Index("work_unknown", work.c.unknown_at, postgresql_where=text("state = 1"))
Index("work_tried", work.c.channel, work.c.notification_id, work.c.n, postgresql_where=text("state = 0 AND tried <> '{}'"))

cohort = Table(
    "cohort",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("lane", SmallInteger, nullable=False),
    text_column("tenant", nullable=True),
    Column("epoch", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    time_column("lease", nullable=False),
    Column("holding", Boolean, nullable=False, server_default=text("false")),
    Column("begun", Boolean, nullable=False, server_default=text("false")),
    now_column(),
    time_column("takes_until"),
    Column("behind", Boolean, nullable=False, server_default=text("false")),
)
"""Notifications that one workflow drives. `tenant` is NULL where tenants share it; `begun`: its workflow has; `holding`: it
only waits, for a time or for answers; `behind`: for an account, with messages that were never tried; until `takes_until` it
takes on what becomes due of those who share."""
Index("cohort_lease", cohort.c.lease)

permit = Table(
    "permit",
    metadata,
    text_column("account", primary_key=True),
    Column("left_over", Float, nullable=False),
    time_column("filled_at", nullable=False),
    Column("owed", Integer, nullable=False, server_default=text("0")),
    time_column("owed_until"),
    time_column("booked_until"),
    Column("few_owed", Integer, nullable=False, server_default=text("0")),
    time_column("few_owed_until"),
    time_column("few_until"),
    Column("ran_over", Float, nullable=False, server_default=text("0")),
    Column("bulk_due", Float, nullable=False, server_default=text("0")),
    time_column("bulk_next_until"),
    Column("others_due", Float, nullable=False, server_default=text("0")),
    postgresql_with={"fillfactor": 50},
)
"""The bucket of an account with a rate; below zero, `left_over` has been granted ahead. Until `owed_until` so many permits
are kept for the high lane, which found none, but for those due to the others, and until `few_owed_until` for whoever has
few messages, but for those due to bulk, which is at hand for the next one until `bulk_next_until`. Up to `booked_until`
bulk has been given its turns. `few_until` and `ran_over` are of a version before."""

probe = Table(
    "probe",
    metadata,
    Column("process", Uuid, primary_key=True),
    time_column("at", nullable=False),
    postgresql_with={"fillfactor": 50},
)
"""What an API process commits to see that it can."""
