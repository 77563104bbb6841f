"""Addresses of PostgreSQL."""

from __future__ import annotations


def sqlalchemy_url(url: str) -> str:
    """A plain `postgresql://` address as SQLAlchemy's asyncpg dialect wants it."""
    return "postgresql+asyncpg://" + url.split("://", 1)[1]
