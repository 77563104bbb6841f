"""Users' preferences as the API reads and writes them, and figures over all of a tenant's.

A user whose preferences were never set has no row, and everything at its default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Conflict, NotFound
from domain.preferences import NO_PREFERENCES, Preferences
from infra.postgres.tables import person, preference
from infra.postgres.users.choices import decode_preferences, encode_preferences
from infra.postgres.users.persons import LIVING

MOST_FIGURES = 500
"""Names of one kind that the figures list: those with the most users, by name where they have as many."""

_FIGURES = text("""
WITH chosen AS MATERIALIZED (
    SELECT person_id, app, choices, choices->'categories' AS categories, choices->'caps' AS caps
    FROM preference WHERE tenant = :tenant AND choices <> '{}'
),
said AS (
    SELECT person_id, app, NULL AS category, c.key AS channel, c.value = 'true' AS yes, NULL::jsonb AS cap
    FROM chosen, jsonb_each(choices->'channels') c
    UNION ALL
    SELECT person_id, app, g.key, NULL, g.value->'enabled' = 'true', NULL
    FROM chosen, jsonb_each(categories) g WHERE g.value ? 'enabled'
    UNION ALL
    SELECT person_id, app, g.key, c.key, c.value = 'true', NULL
    FROM chosen, jsonb_each(categories) g, jsonb_each(g.value->'channels') c
    UNION ALL
    SELECT person_id, app, NULL, c.key, NULL, c.value FROM chosen, jsonb_each(caps->'channels') c
    UNION ALL
    SELECT person_id, app, c.key, NULL, NULL, c.value FROM chosen, jsonb_each(caps->'categories') c
),
counted AS (
    SELECT category, channel, app, count(DISTINCT person_id) AS users,
           count(DISTINCT person_id) FILTER (WHERE yes) AS opted_in,
           count(DISTINCT person_id) FILTER (WHERE NOT yes) AS opted_out,
           count(DISTINCT person_id) FILTER (WHERE cap IS NOT NULL) AS capped,
           avg((cap->'most')::float8 * 86400 / (cap->'window_s')::float8) AS per_day
    FROM said GROUP BY GROUPING SETS ((category, channel), (app))
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY category IS NULL, channel IS NULL, app IS NULL
                                 ORDER BY users DESC, category, channel, app) AS place FROM counted
)
SELECT category, channel, app, opted_in, opted_out, capped, per_day FROM placed WHERE place <= :most
UNION ALL
SELECT NULL, NULL, NULL, count(*), count(*) FILTER (WHERE choices ? 'quiet_hours'),
       count(*) FILTER (WHERE choices ? 'preferred'), NULL FROM chosen
ORDER BY category, channel, app""")
"""Reads the tenant's rows of `preference` once, by the first column of its key."""


@dataclass(frozen=True, slots=True)
class StoredPreferences:
    preferences: Preferences
    app: str | None = None
    """The app whose key recorded the last change; None: never set."""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """How many users said what of a channel, a category, both together, or through an app; what it is not about is None."""

    category: str | None
    channel: str | None
    app: str | None
    opted_in: int
    opted_out: int
    capped: int
    per_day: float | None
    """The average of their caps, each as so many a day."""


@dataclass(frozen=True, slots=True)
class Figures:
    users: int
    """Users who have chosen anything."""
    quiet_hours: int
    preferred: int
    of: list[Figure]


class PreferenceRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, tenant: str, person_id: str) -> StoredPreferences:
        """Raises NotFound."""
        async with self._engine.connect() as connection:
            query = select(person.c.id).where(person.c.tenant == tenant, person.c.id == person_id)
            if (await connection.execute(query)).first() is None:
                raise NotFound("There is no user with this id.")
            return await _read(connection, tenant, person_id)

    async def change(
        self, tenant: str, person_id: str, *, app: str, change: Callable[[Preferences], Preferences]
    ) -> StoredPreferences:
        """Store what `change` makes of what is stored; changes of one user wait for each other. Raises NotFound,
        Conflict (erased or merged away), and whatever `change` raises."""
        async with self._engine.begin() as connection:
            query = select(person.c.state).where(person.c.tenant == tenant, person.c.id == person_id)
            state = (await connection.execute(query.with_for_update())).scalar()
            if state is None:
                raise NotFound("There is no user with this id.")
            if state not in LIVING:
                raise Conflict("This user was erased or merged into another and cannot be changed.")
            stored = await _read(connection, tenant, person_id)
            values = {"choices": encode_preferences(change(stored.preferences)), "app": app}
            statement = insert(preference).values(tenant=tenant, person_id=person_id, **values)
            key = [preference.c.tenant, preference.c.person_id]
            await connection.execute(
                statement.on_conflict_do_update(index_elements=key, set_={**values, "updated_at": func.now()})
            )
            return await _read(connection, tenant, person_id)

    async def figures(self, tenant: str) -> Figures:
        """Over all users of the tenant who have chosen anything."""
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_FIGURES, {"tenant": tenant, "most": MOST_FIGURES})).all()
        figures = [Figure(*row) for row in rows]
        everybody = next(f for f in figures if (f.category, f.channel, f.app) == (None, None, None))
        figures.remove(everybody)
        return Figures(everybody.opted_in, everybody.opted_out, everybody.capped, figures)


async def _read(connection: AsyncConnection, tenant: str, person_id: str) -> StoredPreferences:
    query = select(preference.c.choices, preference.c.app, preference.c.updated_at).where(
        preference.c.tenant == tenant, preference.c.person_id == person_id
    )
    row: Any = (await connection.execute(query)).first()
    if row is None:
        return StoredPreferences(NO_PREFERENCES)
    return StoredPreferences(decode_preferences(msgspec.json.encode(row.choices)), row.app, row.updated_at)
