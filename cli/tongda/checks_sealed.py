"""What `doctor` looks at in what is sealed: by which keys, and whether ours open it."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from cli.tongda.finding import Finding, failed, ok, skipped, warning
from cli.tongda.receipts import secret_key_of
from infra.credentials import CredentialBox
from infra.postgres.sealed import SealedRepository
from infra.resealing import Looked, look
from infra.settings import Settings

CHECK: Final = "sealed secrets"
ANSWER_S: Final = 10.0
ROTATE: Final = "`scripts/tongda secrets rotate` seals them by TONGDA_SECRET_KEY"
NAMED: Final = 3


async def check_sealed(settings: Settings) -> list[Finding]:
    """One line for each thing to say, else one for all."""
    key = secret_key_of(settings)
    if not key:
        return [skipped(CHECK, "there is no TONGDA_SECRET_KEY")]
    box = CredentialBox(key, others=settings.other_keys)
    try:
        async with asyncio.timeout(ANSWER_S):
            connection = await asyncpg.connect(settings.database_url.get_secret_value())
            try:
                found = await look(SealedRepository(connection), box)
            finally:
                connection.terminate()
    except asyncpg.UndefinedTableError:
        return [skipped(CHECK, "migrations come first")]
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return [skipped(CHECK, "PostgreSQL cannot be asked")]
    return list(_findings(found, box))


def _findings(found: Looked, box: CredentialBox) -> list[Finding]:
    told: list[Finding] = []
    if found.unopened:
        ids = ", ".join(one.id for one in found.unopened[:NAMED]) + (", ..." if len(found.unopened) > NAMED else "")
        do = "name their key in TONGDA_OTHER_SECRET_KEYS, or give their settings again with PATCH"
        told.append(failed(CHECK, f"{len(found.unopened)} cannot be opened: {ids}", do=do))
    others = {key_id: count for key_id, count in found.counts.items() if key_id in box.other_ids}
    if others:
        by = ", ".join(f"{count} by {key_id}" for key_id, count in sorted(others.items()))
        told.append(warning(CHECK, f"{by}, and not by the key of now ({box.key_id})", do=ROTATE))
    elif box.other_ids and not found.unopened:
        do = "when no process has one of them as its TONGDA_SECRET_KEY any more, take them out of TONGDA_OTHER_SECRET_KEYS"
        told.append(
            ok(CHECK, f"all {found.counts.get(box.key_id, 0)} by the key of now; {len(box.other_ids)} other named: {do}")
        )
    return told or [ok(CHECK, f"{found.counts.get(box.key_id, 0)}, all by the key of now")]
