"""Those who share an account's permits, played over the real statements with a clock that the test sets."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg

from domain.lanes import PERMIT_WITHIN
from domain.permits import STAYS_S, Bucket, Granted, PermitRank
from infra.postgres.engine.permits import PermitRepository
from tests.engine.support import Engine

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
LOOKS_EVERY_S = 0.2
"""As bulk does, by `FOLLOW_UP_MANY_EVERY_S`."""
TICK_S = 1e-5
"""This clock moves on by no less: the database's counts microseconds."""

_CLOCK = """
CREATE SCHEMA IF NOT EXISTS set_clock;
CREATE OR REPLACE FUNCTION set_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS $$ SELECT current_setting('test.now')::timestamptz $$;
SET search_path = set_clock, pg_catalog, public"""


class Account:
    """One account's permits, over a connection whose `clock_timestamp()` is what the test says."""

    def __init__(self, connection: Any, rate: Callable[[float], Bucket]) -> None:
        self._connection = connection
        self._rate = rate
        self.leases = PermitRepository(cast(asyncpg.Pool, connection))
        self.now_s = 0.0
        self.had: Counter[PermitRank] = Counter()
        self.sent_s: dict[PermitRank, list[float]] = defaultdict(list)
        """When each message went."""
        self.waited_s: dict[PermitRank, list[float]] = defaultdict(list)
        """Of those that ask for a number of messages: from the first time until the last of them."""
        self.statements: Counter[PermitRank] = Counter()

    @property
    def bucket(self) -> Bucket:
        return self._rate(self.now_s)

    async def at(self, at_s: float) -> None:
        self.now_s = at_s
        now = (BEGIN + timedelta(seconds=at_s)).isoformat()
        await self._connection.execute("SELECT set_config('test.now', $1, false)", now)

    async def lease(self, wanted: int, *, rank: PermitRank, stays_s: float = 0.0, again: bool = False) -> Granted:
        self.statements[rank] += 1
        granted = await self.leases.lease("a", bucket=self.bucket, wanted=wanted, rank=rank, stays_s=stays_s, again=again)
        self.had[rank] += granted.count
        self.sent_s[rank] += [self.now_s + granted.wait.total_seconds()] * granted.count
        return granted

    def share_of(self, rank: PermitRank) -> float:
        return self.had[rank] / self.had.total()

    @property
    def fullest_second(self) -> int:
        """The most that went within any second."""
        times, begin, most = sorted(itertools.chain(*self.sent_s.values())), 0, 0
        for n, at_s in enumerate(times):
            while times[begin] <= at_s - 1 + TICK_S:
                begin += 1
            most = max(most, n - begin + 1)
        return most


@dataclass(frozen=True)
class Asker:
    """Asks at its own pace and sends what it is granted. Each is a process or cohort of its own."""

    rank: PermitRank
    first_s: float = 0.0
    messages: float = float("inf")
    wanted: int = 10
    """At a time."""
    late_s: float = 0.02
    """By how much it asks again later than it was told to."""

    async def turns(self, account: Account) -> AsyncGenerator[float]:
        """Yields the time at which it goes on."""
        left = self.messages
        while left > 0:
            granted = await account.lease(int(min(left, self.wanted)), rank=self.rank)
            left -= granted.count
            if not granted.count:
                yield account.now_s + max(TICK_S, granted.wait.total_seconds()) + self.late_s
            elif granted.wait:
                yield account.now_s + granted.wait.total_seconds()
        account.waited_s[self.rank].append(account.now_s - self.first_s)


@dataclass(frozen=True)
class Bulk(Asker):
    """A cohort of many: looks now and then, and stays for a while as it is told."""

    rank: PermitRank = field(default=PermitRank.BULK, init=False)
    wanted: int = 30
    stays: bool = True
    late_for_next_s: float = 0.005
    """By how much it asks again later where it was told to stay."""

    async def turns(self, account: Account) -> AsyncGenerator[float]:
        while True:
            begun_s, again = account.now_s, False
            while True:
                left_s = begun_s + PERMIT_WITHIN.total_seconds() - account.now_s if self.stays else 0.0
                granted = await account.lease(
                    self.wanted, rank=self.rank, stays_s=max(0.0, min(STAYS_S, left_s)), again=again
                )
                again = granted.stays
                if not granted.count and not granted.stays:
                    break
                if granted.stays:
                    yield account.now_s + max(TICK_S, granted.wait.total_seconds()) + self.late_for_next_s
                elif granted.wait:
                    yield account.now_s + granted.wait.total_seconds()
            account.statements[self.rank] += 1
            await account.leases.book("a", count=1000, granted=granted)
            turn_s = min(granted.wait.total_seconds(), granted.spacing.total_seconds())
            yield max(begun_s + LOOKS_EVERY_S, account.now_s + turn_s) + self.late_s


@contextlib.asynccontextmanager
async def account_of(engine: Engine, rate: Callable[[float], Bucket]) -> AsyncIterator[Account]:
    """`rate`: its bucket by the time, in seconds."""
    async with engine.pool.acquire() as connection:  # which is as all others again afterwards
        await connection.execute(_CLOCK)
        account = Account(connection, rate)
        await account.at(0.0)
        yield account


async def shared(
    engine: Engine, rate: float | Callable[[float], float], askers: Sequence[Asker], *, for_s: float
) -> Account:
    """What each gets in so many seconds. `rate` a second, perhaps by the time."""
    async with account_of(engine, lambda now_s: Bucket.of(rate(now_s) if callable(rate) else rate)) as account:
        order = itertools.count()
        due = [(asker.first_s, next(order), asker.turns(account)) for asker in askers]
        heapq.heapify(due)
        while due and due[0][0] < for_s:
            at_s, _, turns = heapq.heappop(due)
            await account.at(at_s)
            if (next_s := await anext(turns, None)) is not None:
                heapq.heappush(due, (next_s, next(order), turns))
        for _, _, turns in due:
            await turns.aclose()
        return account
