"""Permits of accounts with a rate: leased from PostgreSQL, so that all workers together stay below it."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from domain.permits import STAYS_S, Bucket, Granted, PermitRank


class Leases(Protocol):
    """Where permits come from; `infra.postgres.engine.permits` has them."""

    async def lease(
        self,
        account: str,
        *,
        bucket: Bucket,
        wanted: int,
        waiting: int | None = None,
        rank: PermitRank = PermitRank.BULK,
        stays_s: float = STAYS_S,
        again: bool = False,
    ) -> Granted: ...

    async def give_back(self, account: str, *, count: float, most: int) -> None: ...

    async def book(self, account: str, *, count: int, granted: Granted) -> timedelta: ...


class Permits:
    """The permits of one account in this process."""

    def __init__(self, leases: Leases, *, account: str, rate_per_second: float) -> None:
        self._leases = leases
        self._account = account
        self._bucket = Bucket.of(rate_per_second)

    async def take(
        self,
        wanted: int,
        *,
        waiting: int | None = None,
        rank: PermitRank = PermitRank.BULK,
        stays_s: float = STAYS_S,
        again: bool = False,
    ) -> Granted:
        """At most `wanted` messages may go, now or, of bulk, in a moment. Permits that are missing to who goes before bulk
        are kept for them, who will ask again (`waiting`; None: for all of them): bulk would get the next one otherwise,
        again and again. Bulk may be told to stay, and to ask `again`: not for longer than `stays_s`."""
        return await self._leases.lease(
            self._account, bucket=self._bucket, wanted=wanted, waiting=waiting, rank=rank, stays_s=stays_s, again=again
        )

    async def give_back(self, count: int, *, held_s: float) -> None:
        """Return permits with which no message went, less what the bucket was filled with in the `held_s` since they were
        taken: somebody may have had that, and both would be too much."""
        back = count - self._bucket.per_second * held_s
        if back > 0:
            await self._leases.give_back(self._account, count=back, most=self._bucket.burst)

    async def turns(self, count: int, *, granted: Granted) -> timedelta:
        """When the first of `count` messages that were not granted has its turn, if each has its own: cohorts that each
        gave turns from now on would ask for a multiple of the rate."""
        return await self._leases.book(self._account, count=count, granted=granted)
