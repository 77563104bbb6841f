"""The next version's migration comes while this version works: by several processes at once, and beside a long reader."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from cli.up.child import Command, run_step
from cli.up.service import CHECKOUT
from infra.postgres.condition import revisions
from tests.e2e.checker import check
from tests.e2e.load import mixed, sending
from tests.e2e.parts import Parts

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(300)]

AT_ONCE = 4
READS_FOR_S = 3.0
"""Longer than a migration waits for a table."""
MIGRATE = "import pathlib, sys; from infra.postgres import migrate as m; m._FOLDER = pathlib.Path(sys.argv[1]); m.main()"
NEXT = """
from pathlib import Path
from infra.postgres.migrations.script import run_script

revision, down_revision = "next", "{newest}"


def upgrade():
    run_script(Path(__file__).with_suffix(".sql"))
"""
NEXT_SQL = """
ALTER TABLE notification ADD COLUMN of_the_next text;
ALTER TABLE work ADD COLUMN of_the_next text NOT NULL DEFAULT 'x';
CREATE TABLE of_the_next (id int PRIMARY KEY);
CREATE INDEX cohort_of_the_next ON cohort (size);
"""


def next_version_blocking(folder: Path) -> Path:
    """A copy of the migrations with one more."""
    shutil.copytree(CHECKOUT / "infra" / "postgres" / "migrations", folder / "migrations")
    (folder / "migrations" / "versions" / "next.py").write_text(NEXT.format(newest=revisions()[0]))
    (folder / "migrations" / "versions" / "next.sql").write_text(NEXT_SQL)
    return folder / "migrations"


async def test_the_next_version_is_migrated_to_under_load(parts: Parts, tmp_path: Path) -> None:
    """Nobody is refused, nothing is lost, each statement ran once; and this version starts on the later one's tables."""
    migrations, over = await asyncio.to_thread(next_version_blocking, tmp_path), asyncio.Event()
    async with sending("migrated", urls=parts.urls, key=parts.key) as sender:
        bodies = mixed("migrated", 60, box_url=parts.box.http_url)
        load = asyncio.create_task(sender.offer(bodies, per_second=40, until=over))
        reading = asyncio.create_task(read_for_long(parts))
        await asyncio.sleep(0.5)
        await asyncio.gather(*(run_step(migrating(parts, n, migrations), within_s=60) for n in range(AT_ONCE)))
        await reading
        await parts.stop("api-0")
        await parts.start("api-0")
        over.set()
        await load
        assert sender.refused == 0
        await check(sender, parts=parts, unknowns=False)
    connection = await parts.connect()
    try:
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == "next"
        assert await connection.fetchval("SELECT count(of_the_next) FROM notification") == 0
    finally:
        await connection.close()


async def read_for_long(parts: Parts) -> None:
    """A report, a backup: in its transaction nobody can change the table."""
    connection = await parts.connect()
    try:
        async with connection.transaction():
            await connection.fetchval("SELECT count(*) FROM notification")
            await asyncio.sleep(READS_FOR_S)
    finally:
        await connection.close()


def migrating(parts: Parts, number: int, migrations: Path) -> Command:
    return Command(
        name=f"migrate-{number}",
        arguments=[sys.executable, "-c", MIGRATE, str(migrations)],
        log=parts.log(f"migrate-{number}"),
        environment=parts.environment(),
        folder=CHECKOUT,
    )
