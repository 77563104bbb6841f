"""Addresses that a provider, or its receipt, says are dead or have opted out."""

from __future__ import annotations

from collections.abc import Iterable

from domain.ids import uuid7
from domain.suppressions import SuppressionReason
from infra.postgres.engine.locks import Connection

_SUPPRESS = """
INSERT INTO suppression (tenant, channel, address, reason, id)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[]) ON CONFLICT DO NOTHING"""


async def suppress(connection: Connection, addresses: Iterable[tuple[str, str, str]]) -> None:
    """These (tenant, channel, address) get nothing more, until somebody lifts it."""
    rows = sorted(set(addresses))
    if rows:
        await connection.execute(
            _SUPPRESS, [t for t, _, _ in rows], [c for _, c, _ in rows], [a for _, _, a in rows],
            [SuppressionReason.RECIPIENT_REFUSED] * len(rows), [uuid7() for _ in rows],
        )  # fmt: skip
