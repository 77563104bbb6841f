"""Failover between accounts, waiting for receipts, and permits of accounts with a rate."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0008"
down_revision = "0005"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
