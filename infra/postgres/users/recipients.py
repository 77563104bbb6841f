"""Whether users can be written to: the accept path's look at `person`, many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

_STATES = """
SELECT p.state FROM unnest($1::text[], $2::text[]) WITH ORDINALITY u(tenant, id, place)
LEFT JOIN LATERAL (SELECT state FROM person WHERE tenant = u.tenant AND id = u.id OFFSET 0) p ON true
ORDER BY u.place"""


class RecipientRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def states(self, users: Sequence[tuple[str, str]]) -> list[str | None]:
        """`person.state` of each (tenant, id), in order; None for unknown ones."""
        rows = await self._pool.fetch(_STATES, [t for t, _ in users], [i for _, i in users])
        return [row["state"] for row in rows]
