"""What is sealed in the database, as rows: by which key, and sealed anew. So far credentials of provider accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

_COUNTS = "SELECT key_id, count(*) AS count FROM provider_account WHERE sealed IS NOT NULL GROUP BY key_id"

_PAGE = """
SELECT id, tenant, sealed, key_id FROM provider_account
WHERE sealed IS NOT NULL AND id > $1 AND ($2::text IS NULL OR key_id IS DISTINCT FROM $2)
ORDER BY id LIMIT $3"""

_RESEAL = """
UPDATE provider_account a SET sealed = x.new, key_id = $4
FROM unnest($1::text[], $2::bytea[], $3::bytea[]) x(id, old, new)
WHERE a.id = x.id AND a.sealed = x.old"""
"""Its version stays as it is: nothing has changed for who uses it, and a PATCH that was decided before wins."""


@dataclass(frozen=True, slots=True)
class SealedRow:
    id: str
    tenant: str
    sealed: bytes
    key_id: str | None

    def __repr__(self) -> str:
        return f"SealedRow({self.id!r})"


@dataclass(frozen=True, slots=True)
class Resealed:
    """A row as it was, and what it is to hold."""

    row: SealedRow
    sealed: bytes

    def __repr__(self) -> str:
        return f"Resealed({self.row.id!r})"


class SealedRepository:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def counts(self) -> dict[str, int]:
        """Name of a key -> how many values it has sealed."""
        return {row["key_id"] or "": row["count"] for row in await self._connection.fetch(_COUNTS)}

    async def page(self, *, after: str, not_by: str | None, limit: int) -> list[SealedRow]:
        """By id, behind `after`; those that the key `not_by` has sealed are left out."""
        rows = await self._connection.fetch(_PAGE, after, not_by, limit)
        return [SealedRow(row["id"], row["tenant"], bytes(row["sealed"]), row["key_id"]) for row in rows]

    async def reseal(self, rows: Sequence[Resealed], *, key_id: str) -> int:
        """How many still held what they held. Safe to repeat."""
        status: str = await self._connection.execute(
            _RESEAL, [r.row.id for r in rows], [r.row.sealed for r in rows], [r.sealed for r in rows], key_id
        )
        return int(status.split()[-1])
