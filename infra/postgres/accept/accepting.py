"""The one statement that accepts: idempotency keys, notifications and their work, many requests at a time.

Nothing of it is written twice: ids are made before, so that the same rows again (after a COMMIT whose answer was lost)
change nothing, and a row of `work` is made only together with its notification.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from domain.errors import Conflict
from domain.states import SUCCESS, Status
from domain.timeline import EventType
from infra.postgres.accept.row import Row
from infra.postgres.accept.slots import forget_slots, pass_on_slots
from infra.postgres.engine.locks import Connection
from infra.postgres.engine.timeline import write_event

_TAKEN = """
taken AS (
    INSERT INTO notification (id, tenant, app, lane, category, user_id, to_channel, to_address, channels, strategy,
                              template, template_version, content, data, metadata, options, status, accepted_at, send_at,
                              expires_at)
    SELECT id, tenant, app, lane, category, user_id, to_channel, to_address, string_to_array(channels, ','), strategy,
           template, template_version, content, data, metadata, options,
           CASE WHEN send_at > now() THEN 'scheduled' ELSE 'accepted' END, now(), send_at,
           coalesce(expires_at, greatest(send_at, now()) + expires_in)
    FROM unnest($1::accept_row[]) a
    {more}
    RETURNING id, tenant, lane, greatest(send_at, accepted_at) AS due_at, expires_at
)"""
"""One array of rows: an array for each column would be 4 of 10 us of this process a row, and as much of PostgreSQL's."""

_WORK = """
INSERT INTO work (notification_id, n, tenant, lane, due_at, expires_at)
SELECT id, 0, tenant, lane, due_at, expires_at FROM taken"""

_KEYED = """
keyed AS (
    INSERT INTO idempotency (tenant, app, route, key, body_hash, notification_id, answer)
    SELECT tenant, app, route, key, hash, id, answer
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[])
         k(id, tenant, app, route, key, hash, answer)
    ON CONFLICT DO NOTHING RETURNING notification_id
)"""
_WITHOUT_KEY_OR_FIRST = (
    "WHERE NOT EXISTS (SELECT FROM unnest($2::uuid[]) k(id) WHERE k.id = a.id) OR id IN (SELECT * FROM keyed)"
)
_ONCE = "ON CONFLICT (id) DO NOTHING"

FIRST = f"WITH {_TAKEN.format(more='')} {_WORK}"
"""For ids that were sent to the database never before, so that none of them can be there."""
PLAIN = f"WITH {_TAKEN.format(more=_ONCE)}, made AS ({_WORK}) SELECT id FROM taken"
_FIRST_WITH_KEYS, _WITH_KEYS = (
    f"WITH {_KEYED}, {_TAKEN.format(more=f'{_WITHOUT_KEY_OR_FIRST} {once}')}, made AS ({_WORK}) SELECT id FROM taken"
    for once in ("", _ONCE)
)

_KEPT = """
SELECT i.body_hash, i.notification_id, i.answer
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY k(tenant, app, route, key, place)
LEFT JOIN LATERAL (SELECT * FROM idempotency WHERE tenant = k.tenant AND app = k.app AND route = k.route AND key = k.key
                   OFFSET 0) i ON true
ORDER BY k.place"""

_FORGET = """
DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency WHERE created_at < now() - $1::interval ORDER BY created_at LIMIT $2))"""

_ANSWER = "UPDATE idempotency SET answer = $5 WHERE tenant = $1 AND app = $2 AND route = $3 AND key = $4"

_KEEP_BATCH = """
INSERT INTO idempotency (tenant, app, route, key, body_hash, answer) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING RETURNING 1"""

_ENDED = "SELECT final, status FROM notification WHERE id = $1 FOR UPDATE"

_ORIGIN = "UPDATE notification SET origin = $2 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key in its scope, with the body's hash and the answer that a repetition gets."""

    tenant: str
    app: str
    route: str
    key: str
    body_hash: bytes
    answer: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored under a key."""

    body_hash: bytes
    notification_id: UUID | None
    answer: bytes


KEYS_KEPT = timedelta(days=30)
CHUNK = 200
"""Rows in one statement of a batch, so that it holds nothing up for long."""


class AcceptRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One to store over many times: taking it from the pool for each statement costs 65 us more (measured)."""
        async with self._pool.acquire() as connection:
            yield connection

    async def store(
        self,
        rows: Sequence[Row],
        *,
        keys: Sequence[tuple[UUID, Key]] = (),
        over: Connection | None = None,
        first: bool = False,
    ) -> set[UUID]:
        """Store all in one statement; returns the ids that are new. One whose key is taken, or that is stored already, is
        not among them: ask `kept`. `first`: none of them was sent to the database before, which makes it cheaper."""
        executor = self._pool if over is None else over
        if keys:
            found = await executor.fetch(_FIRST_WITH_KEYS if first else _WITH_KEYS, rows, *_key_columns(keys))
        elif first:
            await executor.fetch(FIRST, rows)
            return {row.id for row in rows}
        else:
            found = await executor.fetch(PLAIN, rows)
        return {row["id"] for row in found}

    async def store_batch(self, rows: Sequence[Row], *, key: Key | None) -> bool:
        """Store a whole batch in one transaction; False when its key is taken, and then nothing is stored."""
        async with self._pool.acquire() as connection, connection.transaction():
            if key is not None and not await keep_key(connection, key):
                return False
            for start in range(0, len(rows), CHUNK):
                await connection.fetch(FIRST, rows[start : start + CHUNK])
            return True

    async def store_again(self, row: Row, *, origin: UUID, key: Key | None) -> bool:
        """Store one that is made from `origin`, which must have ended, and say so there; False when its key is taken, and
        then nothing is stored. Raises Conflict `still_open`, where a receipt has just opened it again."""
        async with self._pool.acquire() as connection, connection.transaction():
            if key is not None and not await keep_key(connection, key):
                return False
            await _check_ended(connection, origin)
            await insert(connection, row, origin=origin)
            await pass_on_slots(connection, {origin: row.id})
            return True

    async def forget_keys(self, *, limit: int) -> int:
        """Delete at most `limit` keys older than `KEYS_KEPT`, oldest first; returns how many."""
        status: str = await self._pool.execute(_FORGET, KEYS_KEPT, limit)
        return int(status.split()[-1])

    async def forget_slots(self, *, limit: int) -> int:
        """Delete slots of digests and repeats whose window has ended, at most `limit` of each; returns how many of one."""
        return await forget_slots(self._pool, limit=limit)

    async def kept(self, keys: Sequence[Key]) -> list[Kept | None]:
        """What is stored under each of these keys, in order."""
        rows = await self._pool.fetch(
            _KEPT, [k.tenant for k in keys], [k.app for k in keys], [k.route for k in keys], [k.key for k in keys]
        )
        return [
            Kept(row["body_hash"], row["notification_id"], row["answer"]) if row["body_hash"] is not None else None
            for row in rows
        ]

    async def settled(self, key: Key) -> Kept | None:
        """What is stored under this key, also by a transaction that is just taking it: waits for its end, as whoever takes
        the key would, by taking it and giving it back."""
        [found] = await self.kept([key])
        if found is not None:
            return found
        async with self._pool.acquire() as connection:
            taking = connection.transaction()
            await taking.start()
            try:
                if await keep_key(connection, key):
                    return None
            finally:
                await taking.rollback()
        [found] = await self.kept([key])
        return found


async def keep_key(connection: Connection, key: Key) -> bool:
    """Take the key in the caller's transaction; False when it is taken. Waits for a transaction that is just taking it."""
    row = (key.tenant, key.app, key.route, key.key, key.body_hash, key.answer)
    return await connection.fetchval(_KEEP_BATCH, *row) is not None


async def keep_answer(connection: Connection, key: Key, answer: bytes) -> None:
    """What a repetition with this key gets, where that is known only now. The caller's transaction has taken it."""
    await connection.execute(_ANSWER, key.tenant, key.app, key.route, key.key, answer)


def still_open() -> Conflict:
    return Conflict("It has not ended yet: wait for its end, or cancel it first.", code="still_open")


async def _check_ended(connection: Connection, origin: UUID) -> None:
    """And it stays ended: what makes it go on has the same lock, and sees that it was sent anew."""
    row = await connection.fetchrow(_ENDED, origin)
    if row is not None and not row["final"] and Status(row["status"]) not in SUCCESS:
        raise still_open()


async def insert(connection: Connection, row: Row, *, origin: UUID | None = None) -> None:
    """In the caller's transaction: the notification and its work. `origin`, from which it is made, hears of it."""
    await connection.fetch(PLAIN, [row])
    if origin is not None:
        await connection.execute(_ORIGIN, row.id, origin)
        await write_event(connection, origin, EventType.RESENT, {"as": str(row.id)})


def _key_columns(keys: Sequence[tuple[UUID, Key]]) -> tuple[list[object], ...]:
    """Always in one order: two writers whose keys cross would otherwise wait for each other."""
    keys = sorted(keys, key=lambda pair: (pair[1].tenant, pair[1].app, pair[1].route, pair[1].key))
    return (
        [i for i, _ in keys],
        [k.tenant for _, k in keys],
        [k.app for _, k in keys],
        [k.route for _, k in keys],
        [k.key for _, k in keys],
        [k.body_hash for _, k in keys],
        [k.answer for _, k in keys],
    )
