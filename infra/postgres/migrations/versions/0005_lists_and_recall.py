"""Lists of what ended undelivered, search by address, messages taken back from inboxes."""

from pathlib import Path

from infra.postgres.migrations.script import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
