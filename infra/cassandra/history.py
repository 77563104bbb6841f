"""The event store on Cassandra: for histories too long and too many for PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement

from domain.history import PAGE, Event, Place, check_limit
from infra.cassandra.connection import IN_FLIGHT, Cassandra, Row
from infra.history.detail import decode, encode
from infra.settings import Settings

ROWS_A_BATCH = 50
"""Of one partition: one mutation, one fsync. Measured: 11 to 26 us of CPU a row against 70 to 120 one by one."""
CHARACTERS_A_BATCH = 256_000
"""Of details; far below half a commit log segment, above which Cassandra refuses."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_APPEND = """
INSERT INTO {keyspace}.event (notification_id, at_us, id, n, type, cohort, epoch, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_TIMELINE = """
SELECT id, n, at_us, type, cohort, epoch, detail FROM {keyspace}.event WHERE notification_id = ? LIMIT ?"""
_AFTER = """
SELECT id, n, at_us, type, cohort, epoch, detail FROM {keyspace}.event
WHERE notification_id = ? AND (at_us, id) > (?, ?) LIMIT ?"""


class CassandraEventStore:
    """`domain.history.EventStore`. Appending again writes the same cells again, so it is safe to repeat."""

    def __init__(
        self, cassandra: Cassandra, *, append: PreparedStatement, timeline: PreparedStatement, after: PreparedStatement
    ) -> None:
        self._cassandra = cassandra
        self._append, self._timeline, self._after = append, timeline, after

    @classmethod
    async def open(cls, settings: Settings) -> CassandraEventStore:
        """Connect and prepare. Raises Unavailable; `code` schema_missing when `create_schema` has not been run."""
        cassandra = await Cassandra.open(settings)
        try:
            append, timeline, after = [
                await cassandra.prepare(statement.format(keyspace=settings.cassandra_keyspace))
                for statement in (_APPEND, _TIMELINE, _AFTER)
            ]
        except BaseException:
            await cassandra.close()
            raise
        return cls(cassandra, append=append, timeline=timeline, after=after)

    async def append(self, events: Sequence[Event]) -> None:
        batches = iter(list(self._batches(events)))
        # Senders that share one iterator: the first failure leaves the rest unsent instead of waiting for each time-out.
        senders = [asyncio.create_task(self._send(batches)) for _ in range(min(IN_FLIGHT, len(events)))]
        try:
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    async def _send(self, batches: Iterator[BatchStatement | BoundStatement]) -> None:
        for batch in batches:
            await self._cassandra.execute(batch)

    def _batches(self, events: Sequence[Event]) -> Iterator[BatchStatement | BoundStatement]:
        """One statement for each partition, several where there is much."""
        partitions: defaultdict[UUID, list[Row]] = defaultdict(list)
        for event in events:
            partitions[event.notification_id].append(_row(event))
        for rows in partitions.values():
            for part in _parts(rows):
                yield self._append.bind(part[0]) if len(part) == 1 else self._batch(part)

    def _batch(self, rows: Sequence[Row]) -> BatchStatement:
        # Unlogged: rows of one partition are one mutation, which is atomic without the batch log.
        batch = BatchStatement(batch_type=BatchType.UNLOGGED)
        batch.is_idempotent = True
        for row in rows:
            batch.add(self._append, row)
        return batch

    async def timeline(self, notification_id: UUID, *, after: Place | None = None, limit: int = PAGE) -> Sequence[Event]:
        check_limit(limit)
        if after is None:
            statement = self._timeline.bind((notification_id, limit))
        else:
            statement = self._after.bind((notification_id, _microseconds(after.at), after.id, limit))
        statement.fetch_size = limit  # one answer holds the whole page
        return [_event(notification_id, row) for row in await self._cassandra.execute(statement)]

    async def close(self) -> None:
        await self._cassandra.close()


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows in lists that are neither too many nor too large."""
    part: list[Row] = []
    characters = 0
    for row in rows:
        size = len(row[-1] or "")
        if part and (len(part) == ROWS_A_BATCH or characters + size > CHARACTERS_A_BATCH):
            yield part
            part, characters = [], 0
        part.append(row)
        characters += size
    if part:
        yield part


def _row(event: Event) -> Row:
    return (
        event.notification_id, _microseconds(event.at), event.id, event.n, event.type, event.cohort, event.epoch,
        encode(event.detail),
    )  # fmt: skip


def _event(notification_id: UUID, row: Row) -> Event:
    event_id, n, at_us, kind, cohort, epoch, detail = row
    return Event(notification_id, event_id, n=n, at=_EPOCH + at_us * _MICROSECOND, type=kind, cohort=cohort, epoch=epoch,
                 detail=decode(detail))  # fmt: skip


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
