"""Cohorts that take on what becomes due while they are at work."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
