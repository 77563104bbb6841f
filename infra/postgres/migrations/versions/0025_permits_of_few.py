"""Permits that are kept for whoever has few messages."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
