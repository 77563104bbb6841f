"""Preferences of users, and what was planned under their frequency caps."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
