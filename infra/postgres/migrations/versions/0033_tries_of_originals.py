"""The earlier tries of what is not sent a second time."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0033"
down_revision = "0031"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
