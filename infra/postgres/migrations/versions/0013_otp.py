"""One-time codes and the counters that limit them."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
