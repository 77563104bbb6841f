"""The originals whose repeats are not sent, by id: a new try takes the place of its original."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
