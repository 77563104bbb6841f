"""Runs a migration's .sql file as one script, inside the migration's transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op


def run_script(file: Path) -> None:
    """Through the driver's simple protocol: prepared statements, which SQLAlchemy uses, hold one command each."""
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # opens the transaction that the script must be part of
    raw: Any = bind.connection.dbapi_connection
    script = file.read_text(encoding="utf-8")
    raw.run_async(lambda connection: connection.execute(script))
