"""Group commit: all requests that arrived while the last COMMIT was in flight go into one statement.

No timer: a lone request is written at once, and under load groups grow by themselves. A request is answered only after
the COMMIT that holds it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from domain.errors import Broken, Conflict, Overloaded, TongdaError, Unavailable
from infra.postgres.accept.accepting import AcceptRepository, Kept, Key
from infra.postgres.accept.row import Row
from infra.postgres.engine.locks import Connection
from infra.postgres.errors import AWAY, HELD, POISON, SPENT

log = structlog.get_logger()

MOST_ROWS = 256
MOST_WAITING = 20_000
"""Requests that may wait for their COMMIT in one process; more are refused at once."""
AGAIN_FOR_S = 3.0
"""How long a group is tried again while the database is away: it may have been committed, and only asking again tells."""
AGAIN_AFTER_S = 0.1
COMMIT_LIMIT_S = 8.0
"""A request that has waited so long for its COMMIT is told to come again: a database that stands still says nothing by
itself, and callers, whose own limits are 10 s and more, would pile up."""
LOOK_EVERY_S = 0.5
SPENT_FOR_S = 10.0
"""How long a commit that failed for want of room speaks against the database, unless one works before."""


OnCommit = Callable[[bytes | TongdaError | None], None]
"""Is called once, after the COMMIT, with the first answer where this request repeats an earlier one; or with the reason why
there was none."""


@dataclass(slots=True, eq=False)
class Pending:
    """One request on its way to the COMMIT."""

    row: Row
    key: Key | None
    told: OnCommit | None
    since_s: float = field(default_factory=time.monotonic)
    sent: bool = False
    """It went to the database before, and may be there although nobody said so."""
    over: asyncio.Event | None = None
    """Set when it was told; made by the first who waits for that."""

    @property
    def id(self) -> UUID:
        return self.row.id

    def succeed(self, replay: bytes | None = None) -> None:
        self._tell(replay)

    def fail(self, error: TongdaError) -> None:
        self._tell(error)

    def _tell(self, what: bytes | TongdaError | None) -> None:
        told, self.told = self.told, None
        if told is None:
            return
        if self.over is not None:
            self.over.set()
        try:
            told(what)
        except Exception:
            log.exception("accept.answer_failed", notification_id=str(self.id))  # the others of its group get theirs


class CommitWriter:
    """A queue and the task that commits from it, over a connection of its own. One: two of them halve the groups, and a
    statement costs as much as half a dozen rows."""

    def __init__(self, repository: AcceptRepository, *, committed: Callable[[Iterable[Row]], None], name: str) -> None:
        self._repository = repository
        self._committed = committed
        self._waiting: deque[Pending] = deque()
        self._wake = asyncio.Event()
        self._open = True
        self._under_way: Sequence[Pending] = ()
        self._spent: tuple[Exception, float] | None = None
        self._writing = asyncio.create_task(self._write(), name=f"commit-{name}")
        self._watching = asyncio.create_task(self._watch(), name=f"commit-{name}-watch")

    def put(self, row: Row, *, key: Key | None, told: OnCommit) -> None:
        """Have it committed; `told` gets what became of it: Unavailable, Conflict (the key was used for another body).
        Raises Overloaded, Unavailable, and then `told` is not called."""
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded
        if not self._open:
            raise Unavailable("The service is stopping; send this again.")
        self._waiting.append(Pending(row, key, told))
        self._wake.set()

    async def settled(self) -> None:
        """Returns when what was put before has been committed or given up; at once when that is nothing."""
        last = self._waiting[-1] if self._waiting else self._under_way[-1] if self._under_way else None
        if last is None or last.told is None:
            return
        if last.over is None:
            last.over = asyncio.Event()
        await last.over.wait()

    @property
    def spent(self) -> Exception | None:
        """Why the last commit found no room (SPENT), if that was a moment ago. A probe writes less and may find some."""
        if self._spent is None or time.monotonic() > self._spent[1] + SPENT_FOR_S:
            return None
        return self._spent[0]

    async def stop(self) -> None:
        """Commit what was taken, then end."""
        self._open = False
        self._wake.set()
        await self._writing
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            while not self._waiting:
                if not self._open:
                    return
                self._wake.clear()
                await self._wake.wait()
            try:
                async with self._repository.connection() as connection:
                    while self._waiting and not connection.is_closed():
                        await self._commit_next(over=connection)
            except Exception as error:  # no connection: each group asks for one again, and says so if there is none
                log.warning("accept.no_connection", code=type(error).__name__)
                if self._waiting:
                    await self._commit_next(over=None)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._refuse_late()

    def _refuse_late(self) -> None:
        """Answer who has waited too long. What has not been sent to the database is dropped; the rest may get there."""
        until_s = time.monotonic() - COMMIT_LIMIT_S
        late = [p for p in self._under_way if p.since_s < until_s and p.told is not None]
        while self._waiting and self._waiting[0].since_s < until_s:
            late.append(self._waiting.popleft())
        if late:
            log.warning("accept.late", requests=len(late))
            _fail(late, Unavailable("The database did not answer in time; send this again with its Idempotency-Key."))

    async def _commit_next(self, *, over: Connection | None) -> None:
        group = [self._waiting.popleft() for _ in range(min(MOST_ROWS, len(self._waiting)))]
        self._under_way = group
        await self._commit(group, over=over)
        self._under_way = ()

    async def _commit(self, group: Sequence[Pending], *, over: Connection | None) -> None:
        """Whatever happens, every request of the group gets its answer."""
        first, repeated = _first_of_each_key(group)
        try:
            new = await self._store(first, over=over)
        except (*POISON, *HELD) as error:
            await self._alone(first, error)
        except Exception as error:
            log.warning("accept.failed", code=type(error).__name__, requests=len(group))
            if isinstance(error, SPENT):
                self._spent = (error, time.monotonic())
            _fail(first, Unavailable("The database did not take it in time; send this again with its Idempotency-Key."))
        else:
            self._spent = None
            self._committed(p.row for p in first if p.id in new)
            for pending in first:
                if pending.id in new or pending.key is None:
                    pending.succeed()
                else:
                    repeated.append(pending)
        await self._resolve(repeated)

    async def _store(self, group: Sequence[Pending], *, over: Connection | None) -> set[UUID]:
        """Repeated while the database is away: ids and keys make the same statement again harmless."""
        rows = [p.row for p in group]
        keys = [(p.id, p.key) for p in group if p.key is not None]
        first = not any(p.sent for p in group)
        for pending in group:
            pending.sent = True
        until_s = time.monotonic() + AGAIN_FOR_S
        while True:
            try:
                return await self._repository.store(rows, keys=keys, over=over, first=first)
            except POISON:
                raise
            except AWAY:
                if time.monotonic() >= until_s:
                    raise
                over, first = None, False  # it may be lost; the pool has others
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _alone(self, group: Sequence[Pending], error: Exception) -> None:
        """A row poisons the statement, or somebody who stands still has its key: halve until it stands alone; the others$
        are not its business."""
        if len(group) == 1:
            if isinstance(error, HELD):
                log.warning("accept.failed", code=type(error).__name__, requests=1)
                _fail(group, Unavailable("The first request with this Idempotency-Key has not ended; send this again."))
                return
            log.error("accept.poison", notification_id=str(group[0].id), code=type(error).__name__)
            group[0].fail(Broken("This request cannot be stored; tell the operators its time.", code="not_storable"))
            return
        middle = len(group) // 2
        await self._commit(group[:middle], over=None)
        await self._commit(group[middle:], over=None)

    async def _resolve(self, group: Sequence[Pending]) -> None:
        """Requests whose key was there before them: the same request again, a lost COMMIT of our own, or a conflict."""
        keyed = [(p, p.key) for p in group if p.key is not None]
        if not keyed:
            return
        try:
            kept = await self._repository.kept([key for _, key in keyed])
        except Exception as error:
            log.warning("accept.kept_failed", code=type(error).__name__)
            _fail([p for p, _ in keyed], Unavailable("The database did not answer; send this again."))
            return
        for (pending, key), found in zip(keyed, kept, strict=True):
            answer = judge(key, found)
            if isinstance(answer, TongdaError):
                pending.fail(answer)
            else:
                pending.succeed(None if found is not None and found.notification_id == pending.id else answer)


def judge(key: Key, found: Kept | None) -> bytes | TongdaError:
    """The first answer, or why this request cannot have it."""
    if found is None:
        return Unavailable("The first request with this Idempotency-Key was not stored; send this again.")
    if found.body_hash != key.body_hash:
        message = "This Idempotency-Key was used for another request body; use a new key for a new request."
        return Conflict(message, code="idempotency_conflict")
    return found.answer


def _first_of_each_key(group: Sequence[Pending]) -> tuple[list[Pending], list[Pending]]:
    """Two requests with one key in one commit: the second waits for the first one's answer."""
    seen: set[tuple[str, str, str, str]] = set()
    first: list[Pending] = []
    repeated: list[Pending] = []
    for pending in group:
        key = pending.key
        if key is not None:
            scope = (key.tenant, key.app, key.route, key.key)
            if scope in seen:
                repeated.append(pending)
                continue
            seen.add(scope)
        first.append(pending)
    return first, repeated


def _fail(group: Sequence[Pending], error: TongdaError) -> None:
    for pending in group:
        pending.fail(error)
