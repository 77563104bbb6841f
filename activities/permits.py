"""Permits of accounts with a rate: leased from PostgreSQL, so that all workers together stay below it."""

from __future__ import annotations

from typing import Protocol

from domain.permits import Bucket, Granted


class Leases(Protocol):
    """Where permits come from; `infra.postgres.engine.permits` has them."""

    async def lease(self, account: str, *, bucket: Bucket, wanted: int) -> Granted: ...


class Permits:
    """The permits of one account in this process."""

    def __init__(self, leases: Leases, *, account: str, rate_per_second: float) -> None:
        self._leases = leases
        self._account = account
        self._bucket = Bucket.of(rate_per_second)

    async def take(self, wanted: int) -> Granted:
        """At most `wanted` messages may go now. What is taken and not used is lost: ask for what is there."""
        return await self._leases.lease(self._account, bucket=self._bucket, wanted=wanted)
