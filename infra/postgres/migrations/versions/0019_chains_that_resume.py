"""Chains that go on when a receipt says, after the end, that the last message failed."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
