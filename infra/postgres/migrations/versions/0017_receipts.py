"""Receipts of providers: matched with our own records, in whatever order the two come."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
