"""What `doctor` looks at in the worker processes: does one live for each lane."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from cli.tongda.finding import Finding, failed, ok, skipped
from infra.postgres.tenants.worker_signs import Sign, signs
from infra.settings import Settings

CHECK: Final = "workers"
ANSWER_S: Final = 5.0
LANES: Final = ("high", "medium", "low", "housekeeping")
"""`workers.roles.Role`; a test compares."""


async def check_workers(settings: Settings) -> Finding:
    """By what they write to the database every five seconds, so that one which stands still is noticed, too."""
    try:
        async with asyncio.timeout(ANSWER_S):
            connection = await asyncpg.connect(settings.database_url.get_secret_value())
            try:
                found = await signs(connection)
            finally:
                connection.terminate()
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return skipped(CHECK, "PostgreSQL cannot be asked")
    return skipped(CHECK, "migrations come first") if found is None else judged(found)


def judged(found: Sequence[Sign]) -> Finding:
    """One line: the lanes without a process that lives, or that each has one."""
    missing = [lane for lane in LANES if not any(sign.lives and sign.serves(lane) for sign in found)]
    if not missing:
        return ok(CHECK, f"{sum(sign.lives for sign in found)} live, every lane has one")
    silent = [sign.silent for sign in found if any(sign.serves(lane) for lane in missing)]
    since = f" for {min(silent).total_seconds():.0f} s" if silent else ""
    lanes = f"lane{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    do = (
        f"start one: `python -m workers --lanes {','.join(missing)}`; one that runs and gives no sign stands still, or "
        "cannot reach PostgreSQL: its log says so, or restart it"
    )
    return failed(CHECK, f"none of {lanes} has been heard of{since}", do=do)
