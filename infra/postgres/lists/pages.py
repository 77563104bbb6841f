"""Lists of notifications: newest first, by keyset, each request bounded.

A list takes the narrowest index that its filters allow (`_way`) and walks it from the cursor downwards. It examines at
most `MOST_EXAMINED` entries of it, so that no filter, however rare what it asks for, can hold a connection: a page may
then have fewer items than asked for, none even, and still a cursor that goes on where the walk ended. Nothing between two
pages is left out, because a page only shows what lies above the highest point at which one of its walks has stopped.

App, category, template and direct address have no index of their own, which every accept would pay for (decision 0015).
What the walk did not find is looked for week by week through a block index, which costs accept nothing and is good for
what is rare; what turns out not to be rare, or takes too long, is left to the walk of the next page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from domain.states import MISSED, UNDELIVERED, Status, reasons_of
from infra.postgres.engine.locks import Connection
from infra.postgres.lists import ways as ways
from infra.postgres.lists.id_bounds import FIRST, LAST, id_bounds
from infra.postgres.lists.search import Named, Search, Words

MOST_EXAMINED = 20_000
"""Index entries that one walk looks at: some 60 ms when everything is in memory."""
MOST_SEARCHED = 5_000
"""The same where text is searched, which reads what was posted."""
MOST_BY_BLOCK = 1_000
"""Matches in a week from which on they are not rare. Each may cost a block of 16 pages, some 300 rows."""

_BOUNDS = re.compile(r"FOR VALUES FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")
_OPEN_STATES = frozenset({Status.ACCEPTED, Status.SCHEDULED, Status.PROCESSING})


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list shows; None shows all. `since` is inclusive, `until` is not."""

    lane: int | None = None
    app: str | None = None
    user: str | None = None
    category: str | None = None
    template: str | None = None
    channel: str | None = None
    status: str | None = None
    reason: str | None = None
    final: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    collected_in: UUID | None = None
    """What the message of this one carries, without itself."""
    not_resent: bool = False
    """Leaves out what a newer notification was made from."""
    partial: bool | None = None
    """It arrived on some channels only. Where this is true, `channel` and `reason` are those of one that failed."""
    missed: frozenset[Status] | None = None
    """With `partial`: how that channel ended; None: in any way but arriving."""

    @property
    def beside(self) -> list[str] | None:
        """How a channel that failed beside one that arrived has ended, where something is asked of it."""
        asks = self.missed is not None or self.channel is not None or self.reason is not None
        return sorted(self.missed or MISSED) if self.partial and asks else None


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next page begins. Whether `q` was read as text is part of it: it must not change between two pages."""

    before: UUID
    text: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """`position` is None where nothing more can follow."""

    rows: Sequence[asyncpg.Record]
    position: Position | None


@dataclass(frozen=True, slots=True)
class _Way:
    """One index and what it is asked for; a walk for each key."""

    name: str
    keys: Sequence[str] = ("",)
    addresses: Sequence[str] = ()
    """Only what was sent to one of these by itself."""


@dataclass(frozen=True, slots=True)
class _Week:
    """One partition; `first` is its lowest id, None for the default one."""

    name: str
    first: UUID | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """One list request, as its statements need it."""

    tenant: str
    filters: Filters
    words: Words | None
    low: UUID
    limit: int
    columns: str


@dataclass(frozen=True, slots=True)
class _Part:
    """What one way has found, complete above and including `bound`; None = to its end."""

    rows: Sequence[asyncpg.Record]
    bound: UUID | None


class NotificationLists:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(
        self, tenant: str, *, filters: Filters, limit: int, position: Position | None = None, q: str | None = None
    ) -> Page:
        """At most `limit` rows below `position`. What comes in meanwhile is above it, or was not committed when its place
        was read; nothing is shown twice."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            return await page(connection, tenant, filters=filters, limit=limit, position=position, q=q)


async def page(
    connection: Connection,
    tenant: str,
    *,
    filters: Filters,
    limit: int,
    position: Position | None = None,
    q: str | None = None,
    columns: str = ways.ITEM,
) -> Page:
    """As `NotificationLists.page`, in the caller's transaction, which has one snapshot. `columns` are of `n`, the id among
    them."""
    await connection.execute(ways.WALKING)
    exact = None
    if q is not None and not (position is not None and position.text):
        exact = await Search(connection, tenant).exact(q)
    words = Words.of(q) if q is not None and exact is None else None
    low, high = _range(filters, position)
    asked = _Asked(tenant, filters, words, low, limit, columns)
    parts = [await _found(connection, asked, way, high=high) for way in _ways(filters, exact)]
    return _joined(parts, limit=limit, text=words is not None)


def _ways(filters: Filters, exact: Named | None) -> list[_Way]:
    if exact is None:
        way = _way(filters)
        if way.name != "open" or (filters.status is not None and Status(filters.status) in _OPEN_STATES):
            return [way]
        return [way, _Way("reported"), _Way("collected")]  # what else is not final
    found = [_Way(name, keys) for name, keys in (("id", exact.ids), ("user", exact.users)) if keys]
    return [*found, _Way("all", addresses=exact.addresses)] if exact.addresses else found


def _way(filters: Filters) -> _Way:
    """The narrowest index for these filters."""
    if filters.collected_in is not None:
        return _Way("carried", [str(filters.collected_in)])
    if filters.user is not None:
        return _Way("user", [filters.user])
    if filters.partial:
        return _Way("partial")
    if filters.reason is not None:
        return _Way("reason", [filters.reason])
    if filters.status is not None and Status(filters.status) in UNDELIVERED:
        return _Way("reason", sorted(reasons_of(Status(filters.status))))
    if filters.status == Status.COLLECTED:
        return _Way("collected")
    if filters.final is False or (filters.status is not None and Status(filters.status) in _OPEN_STATES):
        return _Way("open")
    return _Way("all")


async def _found(connection: Connection, asked: _Asked, way: _Way, *, high: UUID) -> _Part:
    """What this way has below `high`."""
    most = MOST_EXAMINED if asked.words is None else MOST_SEARCHED
    start = (asked.tenant, high, asked.low, list(way.keys), most)
    found = await connection.fetch(ways.walk(way.name, columns=asked.columns), *start, *_conditions(asked, way))
    rows = _newest(found)
    if len(rows) > asked.limit:
        return _Part(rows, rows[asked.limit]["id"])
    bound: UUID | None = await connection.fetchval(ways.walks_end(way.name), *start)
    if bound is None or way.name != "all" or not _in_blocks(asked.filters, way):
        return _Part(rows, bound)
    return await _by_block(connection, asked, way, above=rows, below=bound)


async def _by_block(
    connection: Connection, asked: _Asked, way: _Way, *, above: Sequence[asyncpg.Record], below: UUID
) -> _Part:
    """What lies below `below` too, week by week, newest first, as far as it is rare; `above` is what lies above."""
    await connection.execute(ways.BY_BLOCK)
    start = (asked.tenant, below, asked.low, list(way.keys), MOST_BY_BLOCK)
    rows, complete_from = list(above), below
    for week in await _weeks(connection, below=below, low=asked.low):
        statement = ways.by_block(week.name, columns=asked.columns)
        try:
            async with connection.transaction():
                found = await connection.fetch(statement, *start, *_conditions(asked, way))
        except asyncpg.QueryCanceledError:
            return _Part(_newest(rows), complete_from)
        if found[0]["seen"] >= MOST_BY_BLOCK:
            return _Part(_newest(rows), complete_from)
        rows += [row for row in found if row["id"] is not None]
        if week.first is not None:
            complete_from = week.first
            newest = [row for row in _newest(rows) if row["id"] >= complete_from]
            if len(newest) > asked.limit:
                return _Part(newest, newest[asked.limit]["id"])
    return _Part(_newest(rows), None)


async def _weeks(connection: Connection, *, below: UUID, low: UUID) -> list[_Week]:
    """Partitions with ids in this range: the default one, which may hold any, and then the newest first."""
    weeks = []
    for row in await connection.fetch(ways.PARTITIONS):
        bounds = _BOUNDS.search(row["bound"])
        if bounds is None:
            weeks.append(_Week(row["name"], None))
        elif UUID(bounds[1]) < below and UUID(bounds[2]) > low:
            weeks.append(_Week(row["name"], UUID(bounds[1])))
    return sorted(weeks, key=lambda week: week.first or LAST, reverse=True)


def _in_blocks(filters: Filters, way: _Way) -> bool:
    """Something is asked for that the block index knows."""
    return bool(way.addresses) or any(value is not None for value in (filters.app, filters.category, filters.template))


def _conditions(asked: _Asked, way: _Way) -> tuple[object, ...]:
    """$6 to $24."""
    filters, words = asked.filters, asked.words
    bounds = id_bounds(filters.since, filters.until)
    return (
        filters.lane, filters.app, filters.user, filters.category, filters.template, bounds.since, bounds.until,
        filters.channel, filters.status, filters.reason, filters.final, filters.not_resent,
        words.raw if words else None, words.json if words else None, asked.limit + 1, list(way.addresses) or None,
        filters.collected_in, filters.partial, filters.beside,
    )  # fmt: skip


def _newest(rows: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
    return sorted(rows, key=lambda row: row["id"], reverse=True)


def _joined(parts: Sequence[_Part], *, limit: int, text: bool) -> Page:
    """The ways' rows as one page: only down to where all of them are complete."""
    bound = max((part.bound for part in parts if part.bound is not None), default=FIRST)
    found = {row["id"]: row for part in parts for row in part.rows if row["id"] >= bound}
    rows = [found[one] for one in sorted(found, reverse=True)]
    if len(rows) > limit:
        return Page(rows[:limit], Position(rows[limit - 1]["id"], text))
    return Page(rows, None if bound == FIRST else Position(bound, text))


def _range(filters: Filters, position: Position | None) -> tuple[UUID, UUID]:
    """Ids from the first, inclusive, to the second, exclusive."""
    bounds = id_bounds(filters.since, filters.until)
    return bounds.first, min(position.before if position else LAST, bounds.above)
