"""Tenants that have something due are found without meeting those whose rows are all due later."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
