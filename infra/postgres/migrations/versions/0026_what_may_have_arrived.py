"""Attempts of a step whose answers were lost, and which may have arrived."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
