"""Whose code it is, so that wrong guesses at all codes of a recipient can be counted together."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
