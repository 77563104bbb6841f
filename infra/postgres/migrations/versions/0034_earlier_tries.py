"""The earlier tries of what was tried anew before it was remembered."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
