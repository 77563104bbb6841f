"""Digests, and repeats that are not sent."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
