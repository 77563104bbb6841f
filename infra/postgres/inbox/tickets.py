"""Tickets for the live stream: EventSource cannot send headers, and a token does not belong in an URL that proxies log.

A ticket is good once and for `LIFE`; only its hash is stored.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from domain.errors import Unauthenticated
from infra.postgres.database import Database

LIFE = timedelta(seconds=30)

_ISSUE = """
WITH old AS (
    DELETE FROM inbox_ticket WHERE ticket_hash IN (
        SELECT ticket_hash FROM inbox_ticket WHERE expires_at < now() LIMIT 10 FOR UPDATE SKIP LOCKED))
INSERT INTO inbox_ticket (ticket_hash, tenant, user_id, expires_at) VALUES ($1, $2, $3, now() + $4)
RETURNING expires_at"""
"""Each new ticket sweeps a few that were never used."""

_REDEEM = "DELETE FROM inbox_ticket WHERE ticket_hash = $1 RETURNING tenant, user_id, expires_at > now() AS valid"


class InboxTickets:
    """All SQL about tickets."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def issue(self, tenant: str, user_id: str) -> tuple[str, datetime]:
        """A ticket and when it expires."""
        ticket = secrets.token_urlsafe(32)
        expires_at: datetime = await self._pool.fetchval(_ISSUE, _hash(ticket), tenant, user_id, LIFE)
        return ticket, expires_at

    async def redeem(self, ticket: str) -> tuple[str, str]:
        """Tenant and user. The DELETE lets one of two simultaneous uses win. Raises Unauthenticated."""
        row = await self._pool.fetchrow(_REDEEM, _hash(ticket))
        if row is None or not row["valid"]:
            raise Unauthenticated("This ticket is unknown, used or expired: get a new one.", code="ticket_invalid")
        return row["tenant"], row["user_id"]


def _hash(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode(errors="replace")).digest()
