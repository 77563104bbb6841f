"""How long a place of a chain may wait unsent before the next one is opened."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
