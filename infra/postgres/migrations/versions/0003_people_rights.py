"""People's rights: suppressions with ids, devices, erasures."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
