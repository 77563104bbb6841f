"""All that is held about a person, as one JSON document that is written while it is read: memory stays flat.

Names are those of the columns. Notifications and inbox items come in pages, each a statement of its own: a reader who is
slow holds no transaction open, and what comes in behind the page being read is in the document too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import text

from domain.errors import NotFound
from infra.postgres.database import Database
from infra.postgres.users.erasing import ADDRESSES, STORED_ANSWERS, answers_of
from infra.postgres.users.suppressions import SuppressionRepository

FORMAT = "tongda.user/1"
PAGE = 100
"""Notifications, or inbox items, that are in memory at once."""

SECTIONS: dict[str, str] = {
    "person": "user", "identity": "identities", "device": "devices", "suppression": "suppressions",
    "idempotency": "stored_answers", "notification": "notifications", "delivery": "notifications/deliveries",
    "work": "notifications/open_steps", "inbox_item": "inbox", "preference": "preferences",
}  # fmt: skip
"""Table of `PERSONAL` -> where its rows stand; a test asks for each column."""

_PERSON = """
SELECT id, name, locale, time_zone, attributes, state, merged_into, created_at, updated_at FROM person
WHERE tenant = $1 AND id = $2"""

_IDENTITIES = """
SELECT id, channel, address, app, verified, is_primary, created_at FROM identity
WHERE tenant = $1 AND person_id = $2 ORDER BY id"""

_DEVICES = """
SELECT id, kind, token, keys, app, locale, state, created_at, last_seen_at FROM device
WHERE tenant = $1 AND person_id = $2 ORDER BY id"""

_PREFERENCES = """
SELECT choices, app, created_at, updated_at FROM preference WHERE tenant = $1 AND person_id = $2"""

_ANSWERS = f"SELECT i.app, i.route, i.created_at, i.answer {STORED_ANSWERS} ORDER BY i.created_at"

_NOTIFICATIONS = """
SELECT id, app, lane, category, to_channel, to_address, channels, strategy, template, template_version, content, data,
       metadata, (options::jsonb - 'given')::json AS options, status, final, reason, partial, accepted_at, send_at,
       expires_at, cancelled_at, finished_at, deleted_at, erased_at, origin
FROM notification WHERE tenant = $1 AND user_id = $2 AND id > $3 ORDER BY id LIMIT $4"""

_DELIVERIES = """
SELECT d.* FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT notification_id, n, channel, provider, account, address, status, reason, class, code, attempts,
                     provider_id, sent_at, delivered_at, read_at, rest
              FROM delivery WHERE notification_id = x.id ORDER BY n OFFSET 0) d ON true"""

_STEPS = """
SELECT w.* FROM unnest($1::uuid[]) x(id)
JOIN LATERAL (SELECT notification_id, n, channel, account, address, chain, due_at, attempt
              FROM work WHERE notification_id = x.id ORDER BY n OFFSET 0) w ON true"""

_INBOX = """
SELECT id, notification_id, title, text, url, category, data, created_at, expires_at, read_at, archived_at FROM inbox_item
WHERE tenant = $1 AND user_id = $2 AND id > $3 ORDER BY id LIMIT $4"""

_JSON = frozenset({"attributes", "keys", "content", "data", "metadata", "options", "chain", "choices", "rest"})
"""Columns that hold JSON as text already."""

Row = dict[str, Any]


class ExportRepository:
    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._engine = database.engine

    async def open(self, tenant: str, person_id: str) -> AsyncIterator[bytes]:
        """The document in pieces. Raises NotFound before the first."""
        row = await self._pool.fetchrow(_PERSON, tenant, person_id)
        if row is None:
            raise NotFound("There is no user with this id.")
        return self._pieces(tenant, person_id, person=_shown(row))

    async def _pieces(self, tenant: str, person_id: str, *, person: Row) -> AsyncIterator[bytes]:
        head = {"format": FORMAT, "exported_at": datetime.now(UTC), "user": person}
        yield msgspec.json.encode(head)[:-1]
        for name, statement in (
            ("identities", _IDENTITIES), ("devices", _DEVICES), ("preferences", _PREFERENCES),
        ):  # fmt: skip
            yield _member(name, [_shown(row) for row in await self._pool.fetch(statement, tenant, person_id)])
        yield _member("suppressions", await SuppressionRepository(self._engine).of_person(tenant, person_id))
        yield _member("stored_answers", await self._answers(tenant, person_id))
        yield b',"notifications":['
        async for piece in _joined(self._notifications(tenant, person_id)):
            yield piece
        yield b'],"inbox":['
        async for piece in _joined(self._paged(_INBOX, tenant, person_id)):
            yield piece
        yield b"]}"

    async def _answers(self, tenant: str, person_id: str) -> list[Row]:
        async with self._engine.connect() as connection:
            who = {"tenant": tenant, "person": person_id}
            addresses = [row.address for row in await connection.execute(text(ADDRESSES), who)]
            found = await connection.execute(text(_ANSWERS), answers_of(tenant, person_id, addresses=addresses))
            return [{**row._mapping, "answer": msgspec.Raw(row.answer)} for row in found]

    async def _paged(self, statement: str, tenant: str, person_id: str) -> AsyncIterator[list[Row]]:
        after = UUID(int=0)
        while page := await self._pool.fetch(statement, tenant, person_id, after, PAGE):
            after = page[-1]["id"]
            yield [_shown(row) for row in page]

    async def _notifications(self, tenant: str, person_id: str) -> AsyncIterator[list[Row]]:
        async for page in self._paged(_NOTIFICATIONS, tenant, person_id):
            ids = [row["id"] for row in page]
            deliveries = _by_notification(await self._pool.fetch(_DELIVERIES, ids))
            steps = _by_notification(await self._pool.fetch(_STEPS, ids))
            yield [
                {**row, "deliveries": deliveries.get(row["id"], []), "open_steps": steps.get(row["id"], [])} for row in page
            ]


async def _joined(pages: AsyncIterator[list[Row]]) -> AsyncIterator[bytes]:
    first = True
    async for page in pages:
        yield (b"" if first else b",") + msgspec.json.encode(page)[1:-1]
        first = False


def _member(name: str, value: object) -> bytes:
    return b',"%s":%s' % (name.encode(), msgspec.json.encode(value))


def _by_notification(rows: Sequence[asyncpg.Record]) -> dict[UUID, list[Row]]:
    found: dict[UUID, list[Row]] = {}
    for row in rows:
        shown = _shown(row)
        found.setdefault(shown.pop("notification_id"), []).append(shown)
    return found


def _shown(row: asyncpg.Record) -> Row:
    return {
        name: msgspec.Raw(value.encode()) if name in _JSON and value is not None else value for name, value in row.items()
    }
