"""Sending windows of the low lane, and the tenant's time zone."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
