"""Tenants that have something due are found without meeting those whose rows are all due later."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
