"""What table descriptions are made of."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, MetaData, Text, func, text
from sqlalchemy.types import UserDefinedType

metadata = MetaData()


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id; never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "XID8"


def now_column() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def time_column(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def text_column(name: str, *, primary_key: bool = False, nullable: bool = False, default: str | None = None) -> Column[str]:
    server_default = None if default is None else text(f"'{default}'")
    return Column(name, Text, primary_key=primary_key, nullable=nullable, server_default=server_default)
