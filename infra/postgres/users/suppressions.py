"""Addresses that are not to be written to. The claim looks here right before each hand-over (`engine.claims`).

The objection of a person who was erased stays as a digest of the address: it still stops what is sent there, and nobody can
read the address out of it. Whoever has the whole database, pepper included, can test guesses; see docs/decisions/0013.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Conflict, Invalid, NotFound
from domain.ids import uuid7
from domain.suppressions import OBJECTIONS, SuppressionReason
from infra.postgres.users.persons import LIVING

ERASED = "erased "
"""Begins a digest; the space cannot be in an address."""


def digest_sql(*, tenant: str, channel: str, address: str) -> str:
    """The expression of an address's digest; the arguments are SQL. The pepper is read once a statement."""
    pepper = "(SELECT value FROM suppression_pepper WHERE id = 1)"
    parts = f"concat_ws('|', {pepper}, {tenant}, {channel}, {address})"
    return f"'{ERASED}' || encode(sha256(convert_to({parts}, 'UTF8')), 'hex')"


_SHOWN = f"CASE WHEN starts_with(s.address, '{ERASED}') THEN NULL ELSE s.address END AS address"

_OF_PERSON = f"""
SELECT DISTINCT ON (s.id) s.id, s.channel, i.address, s.reason, s.created_at
FROM identity i JOIN suppression s
     ON s.tenant = i.tenant AND s.channel = i.channel
        AND s.address IN (i.address, {digest_sql(tenant="i.tenant", channel="i.channel", address="i.address")})
WHERE i.tenant = :tenant AND i.person_id = :person"""

_LIST = f"""
SELECT s.id, s.channel, {_SHOWN}, s.reason, s.created_at FROM suppression s
WHERE s.tenant = :tenant AND (CAST(:before AS uuid) IS NULL OR s.id < CAST(:before AS uuid))
  AND (CAST(:channel AS text) IS NULL OR s.channel = :channel) AND (CAST(:reason AS text) IS NULL OR s.reason = :reason)
  AND (CAST(:address AS text) IS NULL
       OR s.address IN (CAST(:address AS text), {digest_sql(tenant=":tenant", channel=":channel", address=":address")}))
ORDER BY s.id DESC LIMIT :limit"""

_ADD = """
INSERT INTO suppression (tenant, channel, address, reason, id) VALUES (:tenant, :channel, :address, :reason, :id)
ON CONFLICT (tenant, channel, address) DO NOTHING RETURNING id, channel, address, reason, created_at"""

_ONE = """
SELECT id, channel, address, reason, created_at FROM suppression
WHERE tenant = :tenant AND channel = :channel AND address = :address"""

_LIFT = "DELETE FROM suppression WHERE tenant = :tenant AND id = :id"

_OBJECTED = f"""
INSERT INTO suppression (tenant, channel, address, reason, id, created_at)
SELECT s.tenant, s.channel, {digest_sql(tenant="s.tenant", channel="s.channel", address="s.address")}, s.reason, s.id,
       s.created_at
FROM gone s WHERE s.reason = ANY (:objections)
ON CONFLICT (tenant, channel, address) DO NOTHING RETURNING 1"""

_LEAVE = f"""
WITH gone AS (
    DELETE FROM suppression s USING identity i
    WHERE i.tenant = :tenant AND i.person_id = :person
      AND s.tenant = i.tenant AND s.channel = i.channel AND s.address = i.address
      AND NOT EXISTS (SELECT FROM identity o WHERE o.tenant = i.tenant AND o.channel = i.channel
                      AND o.address = i.address AND o.person_id <> i.person_id)
    RETURNING s.*),
kept AS ({_OBJECTED})
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM kept) AS kept"""
"""The digest may take the id along: the index on it is checked row by row, and the deleted row no longer counts."""

_PERSON = "SELECT state FROM person WHERE tenant = :tenant AND id = :person"
_HAS = "SELECT 1 FROM identity WHERE tenant = :tenant AND person_id = :person AND channel = :channel AND address = :address"


@dataclass(frozen=True, slots=True)
class Suppression:
    id: UUID
    channel: str
    address: str | None
    """None: it belonged to somebody who was erased."""
    reason: str
    created_at: datetime


class SuppressionRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def of_person(self, tenant: str, person_id: str) -> list[Suppression]:
        """Those of the user's addresses, newest first. Raises NotFound."""
        who = {"tenant": tenant, "person": person_id}
        async with self._engine.connect() as connection:
            await _state(connection, who, lock=False)
            found = [_stored(row) for row in await connection.execute(text(_OF_PERSON), who)]
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)

    async def listed(
        self, tenant: str, *, before: UUID | None, limit: int, channel: str | None, address: str | None, reason: str | None
    ) -> list[Suppression]:
        """All of the tenant, newest first, those below `before`; `address` counts together with `channel` only."""
        wanted = {
            "tenant": tenant, "before": before, "limit": limit, "channel": channel, "address": address, "reason": reason,
        }  # fmt: skip
        async with self._engine.connect() as connection:
            return [_stored(row) for row in await connection.execute(text(_LIST), wanted)]

    async def add(
        self, connection: AsyncConnection, tenant: str, *, channel: str, address: str, reason: SuppressionReason
    ) -> tuple[Suppression, bool]:
        """In the caller's transaction: the entry, and whether it is new. One that is there keeps its reason."""
        values = {"tenant": tenant, "channel": channel, "address": address, "reason": str(reason), "id": uuid7()}
        made = (await connection.execute(text(_ADD), values)).first()
        if made is not None:
            return _stored(made), True
        there = {name: values[name] for name in ("tenant", "channel", "address")}
        return _stored((await connection.execute(text(_ONE), there)).one()), False

    async def add_for(
        self,
        connection: AsyncConnection,
        tenant: str,
        person_id: str,
        *,
        channel: str,
        address: str,
        reason: SuppressionReason,
    ) -> tuple[Suppression, bool]:
        """As `add`, for an address of this user. Raises NotFound, Conflict (erased), Invalid (not one of the user's)."""
        who = {"tenant": tenant, "person": person_id}
        if await _state(connection, who, lock=True) not in LIVING:
            raise Conflict("This user was erased or merged into another and cannot be changed.")
        if (await connection.execute(text(_HAS), {**who, "channel": channel, "address": address})).first() is None:
            raise Invalid.field("/address", "not_allowed", "The user has no such address on this channel.")
        return await self.add(connection, tenant, channel=channel, address=address, reason=reason)

    async def lift(self, tenant: str, suppression_id: UUID) -> None:
        """Raises NotFound."""
        async with self._engine.begin() as connection:
            gone = await connection.execute(text(_LIFT), {"tenant": tenant, "id": suppression_id})
            if gone.rowcount == 0:
                raise NotFound("There is no suppression with this id.")

    async def lift_of(self, tenant: str, person_id: str, suppression_id: UUID) -> None:
        """One of this user's addresses. Raises NotFound."""
        if suppression_id not in {one.id for one in await self.of_person(tenant, person_id)}:
            raise NotFound("There is no suppression with this id for an address of this user.")
        await self.lift(tenant, suppression_id)


async def leave_objections(connection: AsyncConnection, tenant: str, person_id: str) -> tuple[int, int]:
    """For an erasure, before the identities go: objections to the user's addresses become digests, the other entries are
    deleted; returns how many went, and how many of them stay as digests. Addresses that somebody else has too are left."""
    values = {"tenant": tenant, "person": person_id, "objections": [str(reason) for reason in OBJECTIONS]}
    row = (await connection.execute(text(_LEAVE), values)).one()
    return row.gone, row.kept


async def _state(connection: AsyncConnection, who: dict[str, Any], *, lock: bool) -> str:
    """The user's state; locks it against an erasure. Raises NotFound."""
    state: str | None = (await connection.execute(text(_PERSON + (" FOR UPDATE" if lock else "")), who)).scalar()
    if state is None:
        raise NotFound("There is no user with this id.")
    return state


def _stored(row: Any) -> Suppression:
    return Suppression(row.id, row.channel, row.address, row.reason, row.created_at)
