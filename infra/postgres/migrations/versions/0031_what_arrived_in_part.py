"""What arrived on some channels and failed on others is found without meeting what arrived whole."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
