"""How accounts do in the worker processes, as these write it down every few seconds, each for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from domain.health import Circuit
from domain.refusal import PROBLEM
from infra.postgres.columns import columns

ALIVE = timedelta(seconds=20)
"""A process that has given no sign for this long is not shown."""
_GONE = timedelta(minutes=10)

_SIGN = """
INSERT INTO worker (process, name, accounts_version, at) VALUES ($1, $2, $3, now())
ON CONFLICT (process) DO UPDATE SET accounts_version = $3, at = now()"""

_WRITE = """
INSERT INTO account_health (account, process, circuit, retry_at, slow_share, in_flight, slots, succeeded_at, failed_at,
                            failure, problem, at)
SELECT account, $1, circuit, now() + retry_in, slow_share, in_flight, slots, now() - succeeded_ago, now() - failed_ago,
       failure, problem, now()
FROM unnest($2::text[], $3::text[], $4::interval[], $5::float8[], $6::int[], $7::int[], $8::interval[], $9::interval[],
            $10::text[], $11::text[])
     h(account, circuit, retry_in, slow_share, in_flight, slots, succeeded_ago, failed_ago, failure, problem)
ON CONFLICT (account, process) DO UPDATE SET
    circuit = EXCLUDED.circuit, retry_at = EXCLUDED.retry_at, slow_share = EXCLUDED.slow_share,
    in_flight = EXCLUDED.in_flight, slots = EXCLUDED.slots, succeeded_at = EXCLUDED.succeeded_at,
    failed_at = EXCLUDED.failed_at, failure = EXCLUDED.failure, problem = EXCLUDED.problem, at = EXCLUDED.at"""

_FORGET = "DELETE FROM account_health WHERE process = $1 AND account = ANY ($2::text[])"

_CLEAN = """
WITH gone AS (DELETE FROM worker WHERE at < now() - $1::interval OR process = $2 RETURNING process)
DELETE FROM account_health h USING gone WHERE h.process = gone.process"""

_OF_ACCOUNT = """
SELECT w.process, w.name, w.at AS seen_at, w.accounts_version, h.circuit, h.retry_at, h.slow_share, h.in_flight, h.slots,
       h.succeeded_at, h.failed_at, h.failure, h.problem
FROM worker w LEFT JOIN account_health h ON h.process = w.process AND h.account = $1
WHERE w.at > now() - $2::interval ORDER BY w.name, w.process"""

_WORKING = f"""
SELECT DISTINCT o.account FROM unnest($2::text[], $3::interval[]) o(account, failed_ago)
JOIN account_health h ON h.account = o.account AND h.process <> $1 AND h.circuit = '{Circuit.CLOSED}'
                     AND h.succeeded_at > now() - o.failed_ago
JOIN worker w ON w.process = h.process AND w.at > now() - $4::interval"""

_REFUSED = """
SELECT DISTINCT ON (h.account) h.account, h.failure FROM account_health h JOIN worker w ON w.process = h.process
WHERE h.account = ANY ($1::text[]) AND h.problem = $2 AND w.at > now() - $3::interval
ORDER BY h.account, h.failed_at DESC NULLS LAST"""

_PERMITS = "SELECT greatest(left_over, 0) AS left_over, filled_at FROM permit WHERE account = $1"
"""Below zero, some are granted that are not there yet."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account in one process."""

    account: str
    circuit: str
    retry_in: timedelta | None
    """Until an open circuit lets a probe through."""
    slow_share: float
    in_flight: int
    slots: int
    succeeded_ago: timedelta | None
    failed_ago: timedelta | None
    failure: str | None
    """The class and code of the last failure."""
    problem: str | None
    """Why it cannot be used at all."""


@dataclass(frozen=True, slots=True)
class SeenState:
    """The same as read: with times, and whose it is. Without a circuit the process has not used the account yet."""

    process: UUID
    name: str
    seen_at: datetime
    accounts_version: int
    circuit: str | None
    retry_at: datetime | None
    slow_share: float | None
    in_flight: int | None
    slots: int | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    failure: str | None
    problem: str | None


class AccountHealthRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def sign(self, process: UUID, *, name: str, accounts_version: int) -> None:
        """This process lives."""
        await self._pool.execute(_SIGN, process, name, accounts_version)

    async def write(self, process: UUID, *, states: Sequence[AccountState], gone: Sequence[str] = ()) -> None:
        """What has changed since the last time; `gone` accounts are not its any more."""
        if states:
            rows = [
                (s.account, s.circuit, s.retry_in, s.slow_share, s.in_flight, s.slots, s.succeeded_ago, s.failed_ago,
                 s.failure, s.problem)
                for s in states
            ]  # fmt: skip
            await self._pool.execute(_WRITE, process, *columns(rows))
        if gone:
            await self._pool.execute(_FORGET, process, list(gone))

    async def working(self, process: UUID, *, failed: Mapping[str, timedelta]) -> list[str]:
        """Those of these accounts over which another process that lives has had a success since: account -> how long ago it
        failed here for the last time."""
        rows = await self._pool.fetch(_WORKING, process, list(failed), list(failed.values()), ALIVE)
        return [row["account"] for row in rows]

    async def clean(self, *, ending: UUID | None = None) -> None:
        """Forget processes that are long gone, and the one that ends."""
        await self._pool.execute(_CLEAN, _GONE, ending)

    async def of(self, account: str) -> list[SeenState]:
        """One line for each process that lives."""
        return [SeenState(**dict(row)) for row in await self._pool.fetch(_OF_ACCOUNT, account, ALIVE)]

    async def refused(self, accounts: Sequence[str]) -> dict[str, str]:
        """Those of `accounts` that their providers refuse, as a process that lives has seen it: the class and code."""
        rows = await self._pool.fetch(_REFUSED, list(accounts), PROBLEM, ALIVE)
        return {row["account"]: row["failure"] or "" for row in rows}

    async def permits(self, account: str) -> tuple[float, datetime] | None:
        """(permits that were left over, when) at the last lease; None where none was ever leased."""
        row = await self._pool.fetchrow(_PERMITS, account)
        return None if row is None else (row["left_over"], row["filled_at"])
