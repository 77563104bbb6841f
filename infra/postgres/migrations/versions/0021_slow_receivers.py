"""Slow receivers: cohorts that wait for accounts, and permits that are owed or booked."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
