"""Provider accounts of tenants, and how the workers find them."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
