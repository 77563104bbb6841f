"""Open digests and what must not be sent twice: small tables, whose rows go when their window has ended."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, Index, LargeBinary, Table, Uuid

from infra.postgres.tables.parts import metadata, text_column, time_column

digest = Table(
    "digest",
    metadata,
    Column("slot", LargeBinary, primary_key=True),
    text_column("tenant"),
    Column("carrier", Uuid),
    time_column("until", nullable=False),
)
"""`slot` is a hash (`domain.digests`). Without a carrier nothing is collected yet: a first was sent at once."""
Index("digest_carrier", digest.c.carrier, unique=True)
Index("digest_age", digest.c.until, postgresql_where=digest.c.carrier.is_(None))

dedupe = Table(
    "dedupe",
    metadata,
    Column("slot", LargeBinary, primary_key=True),
    text_column("tenant"),
    Column("notification_id", Uuid, nullable=False),
    time_column("until", nullable=False),
    Column("earlier", ARRAY(Uuid)),
)
"""`notification_id`: the original, whose repeats are not sent; its newest try. `earlier`: those before it, oldest first."""
Index("dedupe_age", dedupe.c.until)
Index("dedupe_notification", dedupe.c.notification_id)
Index("dedupe_earlier", dedupe.c.earlier, postgresql_using="gin", postgresql_where=dedupe.c.earlier.isnot(None))
