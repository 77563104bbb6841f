"""What of an account's permits is due to bulk."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0030"
down_revision = "0028"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
