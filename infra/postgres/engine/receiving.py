"""Receipts as they come in: matched with what is known of their message, or kept until our own record of it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from channels.receipts import Receipt
from domain.ids import referred
from domain.lanes import Lane
from domain.receipts import EARLY_FOR, KEPT_LONGER, WINDOW, better
from domain.results import ResultClass
from domain.states import Status
from infra.postgres.columns import columns
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection, HeldLately, lock_notifications, over_free, retried
from infra.postgres.engine.receipts import take_in

_FIND = """
SELECT coalesce(i.notification_id, h.id) AS notification_id, coalesce(i.n, h.n) AS n,
       CASE WHEN h.id IS NULL THEN 0 ELSE x.attempt END AS attempt, m.tenant
FROM unnest($2::text[], $3::uuid[], $4::smallint[], $5::smallint[]) WITH ORDINALITY
     x(provider_id, hint, hint_n, attempt, place)
LEFT JOIN LATERAL (SELECT notification_id, n FROM receipt_inbox WHERE account = $1 AND provider_id = x.provider_id
                   OFFSET 0) i ON true
LEFT JOIN LATERAL (
    SELECT x.hint AS id, x.hint_n AS n
    WHERE EXISTS (SELECT FROM (SELECT state, account, attempt FROM work WHERE notification_id = x.hint AND n = x.hint_n
                               OFFSET 0) w
                  WHERE w.state = 1 AND w.account = $1 AND x.attempt IN (0, w.attempt))
       OR EXISTS (SELECT FROM event WHERE notification_id = x.hint AND n = x.hint_n AND type = 'attempt'
                  AND detail ->> 'account' = $1 AND x.attempt IN (0, (detail ->> 'attempt')::smallint) OFFSET 0)) h
     ON i.notification_id IS NULL
LEFT JOIN LATERAL (SELECT tenant, version FROM notification WHERE id = coalesce(i.notification_id, h.id)
                   OFFSET 0) m ON true
ORDER BY x.place"""
"""A reference of ours counts where this account was given that step, in that attempt if it names one: nobody reports on
another account's. `version` keeps the planner from an index by tenant."""

_KEEP = """
INSERT INTO receipt_inbox (account, provider_id, notification_id, n, attempt, until)
SELECT $1, provider_id, id, n, attempt, now() + $6
FROM unnest($2::text[], $3::uuid[], $4::smallint[], $5::smallint[]) x(provider_id, id, n, attempt)
ORDER BY provider_id ON CONFLICT DO NOTHING"""

_LOCK = """
SELECT * FROM receipt_inbox WHERE account = $1 AND provider_id = ANY ($2) ORDER BY provider_id FOR UPDATE"""

_WRITE = """
UPDATE receipt_inbox i SET notification_id = coalesce(i.notification_id, c.id), n = coalesce(i.n, c.n), status = c.status,
       attempt = CASE WHEN i.notification_id IS NULL THEN greatest(i.attempt, c.attempt) ELSE i.attempt END,
       class = coalesce(c.class, i.class), code = coalesce(c.code, i.code),
       delivered_at = least(i.delivered_at, c.delivered_at), read_at = least(i.read_at, c.read_at),
       failed_at = least(i.failed_at, c.failed_at), told = i.told AND c.told, until = greatest(i.until, now() + c.keep)
FROM unnest($2::text[], $3::uuid[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
            $9::timestamptz[], $10::timestamptz[], $11::bool[], $12::interval[], $13::smallint[])
     c(provider_id, id, n, status, class, code, delivered_at, read_at, failed_at, told, keep, attempt)
WHERE i.account = $1 AND i.provider_id = c.provider_id AND i.provider_id = ANY ($2)"""

_TENANT = "SELECT tenant FROM notification WHERE id = $1"

_OVER = """
SELECT DISTINCT notification_id FROM (
    SELECT notification_id FROM delivery WHERE receipt_until <= now() ORDER BY receipt_until LIMIT $1) d ORDER BY 1"""

_CLOSE = """
UPDATE delivery SET receipt_until = NULL
WHERE notification_id = ANY ($3) AND notification_id BETWEEN $1 AND $2 AND receipt_until <= now()"""

_FORGET = """
DELETE FROM receipt_inbox WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM receipt_inbox WHERE until <= now() ORDER BY until LIMIT $1))"""


class Effect(StrEnum):
    """What a receipt led to."""

    CHANGED = "changed"
    KNOWN = "known"
    """Nothing: the same, or more, was known."""
    EARLY = "early"
    """No message of this account has this id yet: it is kept for when our own record comes."""
    FOREIGN = "foreign"
    """The message belongs to another tenant than the signature speaks for: dropped."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Effects in the order of the receipts, and the lanes in which something is due now."""

    effects: Sequence[Effect]
    lanes: frozenset[Lane] = frozenset()


@dataclass(frozen=True, slots=True)
class _News:
    """All that one request says of one message."""

    receipts: Sequence[Receipt]
    step: tuple[UUID, int] | None
    attempt: int
    """By our reference; 0: it is not known from here."""

    @property
    def name(self) -> str:
        return self.receipts[0].name


class ReceiptRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._lately = HeldLately()

    async def tenant_of(self, notification_id: UUID) -> str | None:
        tenant: str | None = await self._pool.fetchval(_TENANT, notification_id)
        return tenant

    async def take(self, account: str, receipts: Sequence[Receipt]) -> Taken:
        """Store all and let them take effect, in one transaction. Safe to repeat, in any order."""
        if not receipts:
            return Taken(())
        return await retried(self._pool, lambda connection: _take(connection, account, receipts))

    async def close(self, *, limit: int) -> int:
        """Windows that are over: what was sent and not reported stays sent, and is final. Returns how many notifications
        were looked at."""

        async def unit(connection: Connection, ids: Sequence[UUID]) -> None:
            if ids:
                await lock_notifications(connection, ids)
                await connection.execute(_CLOSE, ids[0], ids[-1], ids)
                await decide_ends(connection, ids)

        over = [row["notification_id"] for row in await self._pool.fetch(_OVER, limit)]
        if over:
            await over_free(self._pool, over, unit, lately=self._lately)
        return len(over)

    async def forget(self, *, limit: int) -> int:
        """Messages on which nothing is expected any more, and receipts that matched none; returns how many."""
        status: str = await self._pool.execute(_FORGET, limit)
        return int(status.split()[-1])


async def _take(connection: Connection, account: str, receipts: Sequence[Receipt]) -> Taken:
    """The notification's lock is taken before the message's row, as our own record does it. Whose message is not known yet
    needs no such lock; one that became known in between is begun anew."""
    hints = [referred(r.reference or "") or (None, None, None) for r in receipts]
    found = await connection.fetch(
        _FIND, account, [r.name for r in receipts], [h[0] for h in hints], [h[1] for h in hints], [h[2] for h in hints]
    )
    foreign = [r.tenant is not None and f["tenant"] not in (None, r.tenant) for r, f in zip(receipts, found, strict=True)]
    news = _by_message([(r, f) for r, f, other in zip(receipts, found, foreign, strict=True) if not other])
    locked = sorted({one.step[0] for one in news if one.step is not None})
    await lock_notifications(connection, locked)
    rows = await _locked(connection, account, news)
    if any(row["notification_id"] is not None and row["notification_id"] not in locked for row in rows.values()):
        raise asyncpg.SerializationError("our own record came in between")
    effects = {one.name: _effect(one, rows[one.name]) for one in news}
    changing = [one for one in news if _changes(one, rows[one.name])]
    if changing:
        await connection.execute(_WRITE, account, *columns([_row(one, rows[one.name]) for one in changing]))
    steps = sorted({step for one in changing if (step := _step(one, rows[one.name])) is not None})
    lanes = await take_in(connection, steps)
    await decide_ends(connection, sorted({i for i, _ in steps}))
    told = [Effect.FOREIGN if other else effects[r.name] for r, other in zip(receipts, foreign, strict=True)]
    return Taken(told, frozenset(Lane(lane) for lane in lanes))


def _by_message(pairs: Sequence[tuple[Receipt, asyncpg.Record]]) -> list[_News]:
    """In the order of their ids, which is the order of locks."""
    grouped: dict[str, list[Receipt]] = {}
    steps: dict[str, tuple[tuple[UUID, int], int]] = {}
    for receipt, found in pairs:
        grouped.setdefault(receipt.name, []).append(receipt)
        if found["tenant"] is not None:
            steps[receipt.name] = (found["notification_id"], found["n"]), found["attempt"]
    return [_News(grouped[one], *steps.get(one, (None, 0))) for one in sorted(grouped)]


async def _locked(connection: Connection, account: str, news: Sequence[_News]) -> dict[str, asyncpg.Record]:
    ids = [one.name for one in news]
    await connection.execute(
        _KEEP, account, ids, [n.step[0] if n.step else None for n in news], [n.step[1] if n.step else None for n in news],
        [n.attempt for n in news], EARLY_FOR,
    )  # fmt: skip
    return {row["provider_id"]: row for row in await connection.fetch(_LOCK, account, ids)}


def _best(news: _News, known: str | None) -> Status | None:
    status = None if known is None else Status(known)
    for receipt in news.receipts:
        status = better(status, receipt.status)
    return status


def _step(news: _News, row: asyncpg.Record) -> tuple[UUID, int] | None:
    return news.step if row["notification_id"] is None else (row["notification_id"], row["n"])


def _effect(news: _News, row: asyncpg.Record) -> Effect:
    if _best(news, row["status"]) == row["status"]:
        return Effect.KNOWN
    return Effect.EARLY if _step(news, row) is None else Effect.CHANGED


def _changes(news: _News, row: asyncpg.Record) -> bool:
    """It says more, or of an earlier moment, or whose it is."""
    times = zip((Status.DELIVERED, Status.READ, Status.FAILED), ("delivered_at", "read_at", "failed_at"), strict=True)
    sooner = any((at := _at(news, s)) is not None and (row[name] is None or at < row[name]) for s, name in times)
    linked = row["notification_id"] is None and news.step is not None
    return sooner or linked or _best(news, row["status"]) != row["status"]


def _row(news: _News, row: asyncpg.Record) -> tuple[Any, ...]:
    best = _best(news, row["status"])
    failed = next((r for r in news.receipts if r.status is Status.FAILED), None) if best is Status.FAILED else None
    advanced = best != row["status"]
    step = _step(news, row)
    return (
        news.name, *(step or (None, None)), best, (failed.result or ResultClass.RETRY) if failed else None,
        failed.code if failed else None, _at(news, Status.DELIVERED), _at(news, Status.READ), _at(news, Status.FAILED),
        not advanced, EARLY_FOR if step is None else WINDOW + KEPT_LONGER, news.attempt,
    )  # fmt: skip


def _at(news: _News, status: Status) -> datetime | None:
    """When, by the earliest of these receipts; never in the future, whatever the provider's clock says."""
    now = datetime.now(UTC)
    return min((min(r.at or now, now) for r in news.receipts if r.status is status), default=None)
