"""What waits for an account that takes nothing is found without meeting all other open steps."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
