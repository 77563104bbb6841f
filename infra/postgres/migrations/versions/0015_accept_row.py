"""The rows of the accepting statement as a type."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
