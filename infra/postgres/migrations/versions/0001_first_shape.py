"""The first shape: every table of the first way, and the function that makes partitions ahead."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
