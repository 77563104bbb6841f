"""What users want to get, and what was planned under their frequency caps."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, ForeignKeyConstraint, Index, SmallInteger, Table, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

preference = Table(
    "preference",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("person_id", primary_key=True),
    Column("choices", JSONB, nullable=False),
    text_column("app"),
    now_column(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant", "person_id"], ["person.tenant", "person.id"], ondelete="CASCADE"),
)
"""What a user has chosen; no row where nothing ever was. `choices` as `infra.postgres.users.choices` writes it; `app` is
the one whose key recorded the last change. Its row is locked while plans under the user's frequency caps are made."""

cap_use = Table(
    "cap_use",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("person_id", primary_key=True),
    Column("notification_id", Uuid, primary_key=True),
    Column("n", SmallInteger, primary_key=True, autoincrement=False),
    text_column("channel"),
    text_column("category"),
    time_column("at", nullable=False),
)
"""A step that was planned under a frequency cap; written for users with caps only, and forgotten after the longest window.
Whether it counts is told by what became of the step."""
Index("cap_use_age", cap_use.c.at)
