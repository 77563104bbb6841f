"""The in-app inbox: storing messages, and reading and marking them.

Every change writes `changed_in`, by which the live stream finds it (`infra.postgres.inbox.changes`), and ends with an empty
NOTIFY on `CHANNEL`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from channels.base import InboxItem, NotSent, Recall
from domain.errors import NotFound
from domain.ids import uuid7
from infra.postgres.database import Database
from infra.postgres.engine.chains import chained, stop_other_steps
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection, lock_notifications, retried
from infra.postgres.engine.receipts import stop_waiting
from infra.postgres.errors import AWAY

CHANNEL = "tongda_inbox"

COLUMNS = """
i.id, i.notification_id, i.title, i.text, i.url, i.category, i.data, i.created_at, i.read_at, i.archived_at,
i.expires_at, i.recalled_at"""
"""What `InboxEntry.of` takes."""

_STORE = f"""
WITH stored AS (
    INSERT INTO inbox_item (id, tenant, user_id, notification_id, n, title, text, url, category, data, expires_at)
    SELECT x.id, x.tenant, x.user_id, x.notification_id, x.n, x.title, x.text, x.url, x.category, x.data::json, x.expires_at
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::int2[], $6::text[], $7::text[], $8::text[], $9::text[],
                $10::text[], $11::timestamptz[])
         AS x(id, tenant, user_id, notification_id, n, title, text, url, category, data, expires_at)
    WHERE (SELECT state FROM person WHERE tenant = x.tenant AND id = x.user_id) IS DISTINCT FROM 'erased'
    ORDER BY x.notification_id, x.n
    ON CONFLICT (notification_id, n) DO NOTHING
    RETURNING 1)
SELECT count(*), pg_notify('{CHANNEL}', '') FROM stored"""

_LIST = f"""
SELECT {COLUMNS} FROM inbox_item i
WHERE i.tenant = $1 AND i.user_id = $2 AND i.id < $3 AND (i.archived_at IS NOT NULL) = $4
  AND i.recalled_at IS NULL
  AND (NOT $5 OR i.read_at IS NULL)
ORDER BY i.id DESC LIMIT $6"""

_UNREAD = """
SELECT count(*) FROM inbox_item
WHERE tenant = $1 AND user_id = $2 AND read_at IS NULL AND archived_at IS NULL AND recalled_at IS NULL"""

_USER = "SELECT true FROM person WHERE tenant = $1 AND id = $2 AND state NOT IN ('erased', 'merged')"

_ITEM = """
SELECT notification_id, n FROM inbox_item WHERE tenant = $1 AND user_id = $2 AND id = $3 AND recalled_at IS NULL"""

_CHANGE = f"""
WITH changed AS (
    UPDATE inbox_item i SET {{what}}, changed_in = pg_current_xact_id()
    WHERE i.tenant = $1 AND i.user_id = $2 AND i.id = $3 AND i.recalled_at IS NULL AND {{unless}}
    RETURNING {COLUMNS}),
hint AS (SELECT pg_notify('{CHANNEL}', '') FROM changed)
SELECT {COLUMNS} FROM changed i LEFT JOIN hint ON true
UNION ALL
SELECT {COLUMNS} FROM inbox_item i
WHERE i.tenant = $1 AND i.user_id = $2 AND i.id = $3 AND i.recalled_at IS NULL
  AND NOT EXISTS (SELECT FROM changed)"""
_MARK_UNREAD = _CHANGE.format(what="read_at = NULL", unless="i.read_at IS NOT NULL")
_ARCHIVE = _CHANGE.format(what="archived_at = now()", unless="i.archived_at IS NULL")

_UNREAD_PAGE = """
SELECT id, notification_id FROM inbox_item
WHERE tenant = $1 AND user_id = $2 AND read_at IS NULL AND archived_at IS NULL AND recalled_at IS NULL AND id <= $3
ORDER BY notification_id LIMIT $4"""

_MARK_READ = f"""
WITH changed AS (
    UPDATE inbox_item SET read_at = now(), changed_in = pg_current_xact_id()
    WHERE tenant = $1 AND user_id = $2 AND id = ANY($3::uuid[]) AND read_at IS NULL AND recalled_at IS NULL
    RETURNING tenant, user_id, notification_id, n, created_at),
hint AS (SELECT pg_notify('{CHANNEL}', '') WHERE EXISTS (SELECT FROM changed)),
step AS (
    INSERT INTO delivery AS d (notification_id, n, tenant, channel, address, status, sent_at, delivered_at, read_at)
    SELECT notification_id, n, tenant, 'inapp', user_id, 'read', created_at, created_at, now() FROM changed
    ORDER BY notification_id, n
    ON CONFLICT (notification_id, n) DO UPDATE
        SET status = 'read', reason = NULL, read_at = now(), updated_at = now(),
            sent_at = coalesce(d.sent_at, EXCLUDED.sent_at), delivered_at = coalesce(d.delivered_at, EXCLUDED.delivered_at)
        WHERE d.status <> 'read'
    RETURNING d.notification_id, d.n),
happened AS (
    INSERT INTO event (notification_id, id, n, at, type)
    SELECT s.notification_id, e.id, s.n, now(), 'read'
    FROM (SELECT notification_id, n, row_number() OVER () AS place FROM step) s
    JOIN unnest($4::uuid[]) WITH ORDINALITY AS e(id, place) USING (place))
SELECT s.notification_id, s.n FROM step s LEFT JOIN hint ON true"""
"""The delivery's record may not be there yet: storing comes before the flush of its outcome, which keeps `read`."""

_RECALL = """
INSERT INTO inbox_item AS i (id, tenant, user_id, notification_id, n, title, text, category, expires_at, recalled_at)
SELECT x.id, x.tenant, x.user_id, x.notification_id, x.n, '', '', '', now(), now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::int2[]) AS x(id, tenant, user_id, notification_id, n)
WHERE NOT EXISTS (SELECT FROM delivery d WHERE d.notification_id = x.notification_id AND d.n = x.n AND d.status = 'read')
ORDER BY x.notification_id, x.n
ON CONFLICT (notification_id, n) DO UPDATE
    SET recalled_at = now(), title = '', text = '', url = NULL, data = NULL, changed_in = pg_current_xact_id()
    WHERE i.read_at IS NULL AND i.recalled_at IS NULL"""
"""A row also for what was not stored yet: it is in the way of a store that comes later."""

_GONE = f"""
SELECT coalesce(i.recalled_at IS NOT NULL, false) AS gone, pg_notify('{CHANNEL}', '')
FROM unnest($1::uuid[], $2::int2[]) WITH ORDINALITY x(notification_id, n, place)
LEFT JOIN inbox_item i ON i.notification_id = x.notification_id AND i.n = x.n ORDER BY x.place"""

PAGE = 500
"""Items that one transaction of read-all marks: it locks as many notifications."""


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """An item as its reader sees it."""

    id: UUID
    notification_id: UUID
    title: str
    text: str
    url: str | None
    category: str
    data: Mapping[str, Any] | None
    created_at: datetime
    read_at: datetime | None
    archived_at: datetime | None
    expires_at: datetime
    """Until when it was to be delivered: what it tells may be over. It stays in the inbox."""
    recalled_at: datetime | None
    """Only in the live stream: it is to vanish."""

    @classmethod
    def of(cls, row: asyncpg.Record) -> InboxEntry:
        return cls(
            row["id"], row["notification_id"], row["title"], row["text"], row["url"], row["category"],
            None if row["data"] is None else json.loads(row["data"]), row["created_at"], row["read_at"], row["archived_at"],
            row["expires_at"], row["recalled_at"],
        )  # fmt: skip


class Inbox:
    """`channels.base.InboxPort`, and the reader's side."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def store(self, items: Sequence[InboxItem]) -> None:
        """Store all in one statement, each once: the same (notification, n) again changes nothing.

        Raises NotSent when none was stored, or when it cannot be known: storing again is harmless.
        """
        if not items:
            return
        columns: list[list[Any]] = [
            [uuid7() for _ in items],
            [i.tenant for i in items],
            [i.user_id for i in items],
            [i.notification_id for i in items],
            [i.n for i in items],
            [_storable(i.title) for i in items],
            [_storable(i.text) for i in items],
            [None if i.url is None else _storable(i.url) for i in items],
            [i.category for i in items],
            [json.dumps(i.data) for i in items],
            [i.expires_at for i in items],
        ]
        try:
            await self._pool.fetch(_STORE, *columns)
        except asyncpg.DataError:
            raise NotSent("inbox_refused") from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            raise NotSent("inbox_unavailable") from None

    async def recall(self, items: Sequence[Recall]) -> Sequence[bool]:
        """Take these out of their inboxes, under their notifications' locks, which readers take too. False for what was
        read.

        Raises NotSent when the database cannot be asked.
        """
        ordered = sorted(items, key=lambda one: (one.notification_id, one.n))

        async def unit(connection: Connection) -> Sequence[bool]:
            await lock_notifications(connection, sorted({one.notification_id for one in ordered}))
            await connection.execute(
                _RECALL, [uuid7() for _ in ordered], [one.tenant for one in ordered], [one.address for one in ordered],
                [one.notification_id for one in ordered], [one.n for one in ordered],
            )  # fmt: skip
            rows = await connection.fetch(_GONE, [one.notification_id for one in items], [one.n for one in items])
            return [row["gone"] for row in rows]

        try:
            return await retried(self._pool, unit)
        except AWAY:
            raise NotSent("inbox_unavailable") from None

    async def require_user(self, tenant: str, user_id: str) -> None:
        """Raises NotFound for a user that this tenant does not have (any more)."""
        if not await self._pool.fetchval(_USER, tenant, user_id):
            raise NotFound("There is no such user.")

    async def listed(
        self, tenant: str, user_id: str, *, before: UUID | None, limit: int, unread: bool, archived: bool
    ) -> list[InboxEntry]:
        """Newest first, those older than `before`; `unread` leaves out what was read, `archived` shows only the archive."""
        top = before or UUID(int=(1 << 128) - 1)
        rows = await self._pool.fetch(_LIST, tenant, user_id, top, archived, unread, limit)
        return [InboxEntry.of(row) for row in rows]

    async def unread(self, tenant: str, user_id: str) -> int:
        """How many are neither read nor archived."""
        count: int = await self._pool.fetchval(_UNREAD, tenant, user_id)
        return count

    async def mark_read(self, tenant: str, user_id: str, *, item: UUID) -> InboxEntry:
        """Reading is evidence: the delivery becomes `read`, and a notification that has ended too. Raises NotFound."""

        async def unit(connection: Connection) -> InboxEntry:
            row = await connection.fetchrow(_ITEM, tenant, user_id, item)
            if row is None:
                raise NotFound("There is no such item in this inbox.")
            await _read(connection, tenant, user_id, items=[item], notifications=[row["notification_id"]])
            found = await connection.fetchrow(f"SELECT {COLUMNS} FROM inbox_item i WHERE i.id = $1", item)
            assert found is not None
            return InboxEntry.of(found)

        return await retried(self._pool, unit)

    async def mark_all_read(self, tenant: str, user_id: str) -> int:
        """All that are there now and not archived, in transactions of `PAGE`; returns how many it marked."""
        newest = uuid7()
        marked = 0

        async def unit(connection: Connection) -> int:
            page = await connection.fetch(_UNREAD_PAGE, tenant, user_id, newest, PAGE)
            if page:
                notifications = sorted({row["notification_id"] for row in page})
                await _read(connection, tenant, user_id, items=[r["id"] for r in page], notifications=notifications)
            return len(page)

        while count := await retried(self._pool, unit):
            marked += count
            if count < PAGE:
                break
        return marked

    async def mark_unread(self, tenant: str, user_id: str, *, item: UUID) -> InboxEntry:
        """Only the reader's own mark: the notification stays `read`, because it was. Raises NotFound."""
        return await self._change(_MARK_UNREAD, tenant, user_id, item=item)

    async def archive(self, tenant: str, user_id: str, *, item: UUID) -> InboxEntry:
        """Out of the list and the unread count. Raises NotFound."""
        return await self._change(_ARCHIVE, tenant, user_id, item=item)

    async def _change(self, statement: str, tenant: str, user_id: str, *, item: UUID) -> InboxEntry:
        row = await self._pool.fetchrow(statement, tenant, user_id, item)
        if row is None:
            raise NotFound("There is no such item in this inbox.")
        return InboxEntry.of(row)


async def _read(
    connection: Connection, tenant: str, user_id: str, *, items: Sequence[UUID], notifications: Sequence[UUID]
) -> None:
    """Locks the notifications first, in order, as every writer of deliveries does; acts in later statements. What waited
    for it, or would have followed in its chain, is not sent any more, as after a receipt.

    A notification with open steps keeps its state: its end, when it comes, knows the delivery that was read.
    """
    await lock_notifications(connection, notifications)
    events = [uuid7() for _ in items]
    read = await connection.fetch(_MARK_READ, tenant, user_id, items, events)
    steps = sorted((row["notification_id"], row["n"]) for row in read)
    await stop_waiting(connection, steps)
    await stop_other_steps(connection, await chained(connection, steps))
    await decide_ends(connection, sorted({i for i, _ in steps}))


def _storable(text: str) -> str:
    """Without what PostgreSQL refuses: one such message would take its whole batch with it."""
    return text.replace("\x00", "").encode(errors="replace").decode()
