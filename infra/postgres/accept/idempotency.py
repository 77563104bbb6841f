"""Idempotency keys of creating requests off the hot path: the key's row and what it creates are one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.postgres.accept.accepting import Kept
from infra.postgres.tables import idempotency

KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a key counts, and the request that carries it."""

    tenant: str
    app: str
    route: str
    """Method and path, ids included: the same key may be used under another object."""
    key: str
    body_hash: bytes


async def claim(connection: AsyncConnection, scope: Scope) -> Kept | None:
    """None when this request is the first with its key: create, then `keep`. Otherwise what the first one left.

    Waits for a request that is just using the key; if that one fails, this one is the first.
    """
    new = insert(idempotency).values(
        tenant=scope.tenant, app=scope.app, route=scope.route, key=scope.key, body_hash=scope.body_hash, answer=b""
    )
    over = idempotency.c.created_at < func.now() - KEPT_FOR
    statement = new.on_conflict_do_update(
        index_elements=[idempotency.c.tenant, idempotency.c.app, idempotency.c.route, idempotency.c.key],
        set_={"body_hash": scope.body_hash, "answer": b"", "notification_id": None, "created_at": func.now()},
        where=over,
    ).returning(idempotency.c.key)
    if (await connection.execute(statement)).first() is not None:
        return None
    query = select(idempotency.c.body_hash, idempotency.c.notification_id, idempotency.c.answer).where(*_row(scope))
    row = (await connection.execute(query)).one()
    return Kept(row.body_hash, row.notification_id, row.answer)


async def keep(connection: AsyncConnection, scope: Scope, *, answer: bytes) -> None:
    """What a repetition of the request gets."""
    await connection.execute(update(idempotency).where(*_row(scope)).values(answer=answer))


def _row(scope: Scope) -> tuple[Any, ...]:
    columns = idempotency.c
    return (
        columns.tenant == scope.tenant,
        columns.app == scope.app,
        columns.route == scope.route,
        columns.key == scope.key,
    )
