"""Cohorts whose workflow has not begun yet are told apart."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0011"
down_revision = "0008"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
