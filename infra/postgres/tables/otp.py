"""One-time codes, and how much was sent and guessed lately for whom. Neither holds a code or an address."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, Index, Integer, Interval, LargeBinary, SmallInteger, Table, Uuid, text

from infra.postgres.tables.parts import metadata, now_column, text_column, time_column

otp = Table(
    "otp",
    metadata,
    Column("id", Uuid, primary_key=True),
    text_column("tenant"),
    text_column("app"),
    Column("notification_id", Uuid, nullable=False),
    Column("sends", SmallInteger, nullable=False, server_default=text("1")),
    text_column("purpose"),
    text_column("locale"),
    Column("length", SmallInteger, nullable=False),
    text_column("key_id"),
    Column("salt", LargeBinary, nullable=False),
    Column("code_hash", LargeBinary, nullable=False),
    Column("client", LargeBinary),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("life", Interval, nullable=False),
    time_column("expires_at", nullable=False),
    time_column("resend_at", nullable=False),
    time_column("verified_at"),
    now_column(),
    Column("recipients", ARRAY(LargeBinary)),
    postgresql_with={"fillfactor": 80},
)
"""`code_hash` is keyed and salted, of the newest code alone; `notification_id` carries it. `key_id` names the key that code
and hash were made under, `client` is the keyed hash of the client's network, `recipients` are those of the user and the
addresses that the newest code goes to."""
Index("otp_expires", otp.c.expires_at)

otp_counter = Table(
    "otp_counter",
    metadata,
    text_column("tenant", primary_key=True),
    text_column("scope", primary_key=True),
    Column("subject", LargeBinary, primary_key=True),
    Column("count", Integer, nullable=False),
    time_column("until", nullable=False),
    postgresql_with={"fillfactor": 70},
)
"""Codes sent, or wrong guesses, within a span that ends at `until`. `subject` is a keyed hash of an address, user or
network."""
Index("otp_counter_until", otp_counter.c.until)
