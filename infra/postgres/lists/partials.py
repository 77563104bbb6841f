"""New tries of what arrived in part: chosen by a list, judged as `domain.partials` says, opened under their locks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from domain.lanes import Lane
from domain.partials import MissedStep, Partial, Refusal, Wanted, steps_again
from domain.states import MISSED, Status
from domain.timeline import EventType
from domain.trials import TEST
from infra.postgres.accept.accepting import Key, keep_answer, keep_key
from infra.postgres.engine.locks import Connection, lock_notifications, retried
from infra.postgres.engine.lost_attempts import lost_of
from infra.postgres.engine.options import options_of, times_of
from infra.postgres.engine.reopening import Reopening, reopen
from infra.postgres.lists.pages import Filters, Page, Position, page
from infra.postgres.users.suppressions import digest_sql

_FOUND = f"""
SELECT n.*, d.n AS step, d.channel, d.account, d.status AS ended, d.reason, d.attempts, d.lost, a.address, p.locale,
       n.user_id IS NOT NULL AND p.state IS DISTINCT FROM 'active' AS gone,
       EXISTS (SELECT FROM event WHERE notification_id = n.id AND type = '{EventType.RESENT}' OFFSET 0) AS resent,
       EXISTS (SELECT FROM event WHERE notification_id = n.id AND type = '{EventType.RECALLED}' OFFSET 0) AS recalled,
       a.address IS NOT NULL AND EXISTS (
           SELECT FROM suppression WHERE tenant = n.tenant AND channel = d.channel
             AND address IN (a.address, {digest_sql(tenant="n.tenant", channel="d.channel", address="a.address")})
           OFFSET 0) AS suppressed
FROM unnest($2::uuid[]) x(id)
JOIN LATERAL (SELECT id, tenant, lane, user_id, to_channel, to_address, status, final, partial, options, digest,
                     accepted_at, send_at, expires_at,
                     cancelled_at IS NOT NULL AS cancelled, erased_at IS NOT NULL AS erased,
                     template IS NULL AND content IS NULL AS empty
              FROM notification WHERE id = x.id AND tenant = $1 AND deleted_at IS NULL OFFSET 0) n ON true
LEFT JOIN LATERAL (SELECT state, locale FROM person WHERE tenant = n.tenant AND id = n.user_id OFFSET 0) p ON true
LEFT JOIN LATERAL (SELECT n, channel, account, status, reason, attempts, lost FROM delivery
                   WHERE notification_id = x.id AND status = ANY ($3) OFFSET 0) d ON n.partial
CROSS JOIN LATERAL (
    SELECT CASE WHEN n.user_id IS NULL THEN CASE WHEN n.to_channel = d.channel THEN n.to_address END
                WHEN d.channel = 'inapp' THEN n.user_id
                ELSE (SELECT address FROM identity
                      WHERE tenant = n.tenant AND person_id = n.user_id AND channel = d.channel
                      ORDER BY is_primary DESC, created_at, id LIMIT 1) END AS address) a
ORDER BY n.id, d.n"""
"""The address is the one that a plan would take now (`infra.postgres.engine.plans`)."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a new try does, or would do. Every notification that was asked for is in one of the two."""

    again: Mapping[UUID, Sequence[MissedStep]]
    refused: Mapping[UUID, Refusal]
    lanes: frozenset[Lane] = frozenset()
    """Of those that go again."""


class PartialRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, tenant: str, *, filters: Filters, limit: int, position: Position | None) -> Page:
        """Ids, newest first, of which no newer notification was made."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            return await page(connection, tenant, filters=filters, limit=limit, position=position, columns="n.id")

    async def judged(self, tenant: str, ids: Sequence[UUID], *, wanted: Wanted) -> Judged:
        """What `reopen` would do at this moment."""
        async with self._pool.acquire() as connection:
            return _judged(ids, await connection.fetch(_FOUND, tenant, ids, sorted(MISSED)), wanted)

    async def reopen(
        self, tenant: str, ids: Sequence[UUID], *, wanted: Wanted, key: Key | None, answer: Callable[[Judged], bytes]
    ) -> Judged | None:
        """Open again what may go again; each is judged under its lock, so that of two who ask at once one does it. `answer`
        is what a repetition with the key gets. None when the key is taken, and then nothing is done."""

        async def unit(connection: Connection) -> Judged | None:
            if key is not None and not await keep_key(connection, key):
                return None
            ordered = sorted(ids)
            await lock_notifications(connection, ordered)
            rows = await connection.fetch(_FOUND, tenant, ordered, sorted(MISSED))
            judged = _judged(ordered, rows, wanted)
            await reopen(connection, [
                _reopening(row) for row in rows if any(row["step"] == s.n for s in judged.again.get(row["id"], ()))
            ])  # fmt: skip
            if key is not None:
                await keep_answer(connection, key, answer(judged))
            return judged

        return await retried(self._pool, unit)


def _judged(ids: Sequence[UUID], rows: Sequence[asyncpg.Record], wanted: Wanted) -> Judged:
    by_id: dict[UUID, list[asyncpg.Record]] = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    again, refused, lanes = dict[UUID, Sequence[MissedStep]](), dict[UUID, Refusal](), set[Lane]()
    for one in ids:
        found = by_id.get(one)
        # removed from view meanwhile, which cancels
        decided = Refusal.CANCELLED if found is None else steps_again(_partial(found), wanted)
        if isinstance(decided, Refusal):
            refused[one] = decided
        elif found is not None:
            again[one] = decided
            lanes.add(times_of(found[0]).posted_lane)
    return Judged(again, refused, frozenset(lanes))


def _partial(rows: Sequence[asyncpg.Record]) -> Partial:
    row = rows[0]
    return Partial(
        Status(row["status"]),
        final=row["final"],
        partial=row["partial"],
        steps=[
            MissedStep(r["step"], r["channel"], Status(r["ended"]), r["reason"], r["address"], r["suppressed"])
            for r in rows
            if r["step"] is not None
        ],
        stands_against=_against(row),
    )


def _against(row: asyncpg.Record) -> Refusal | None:
    options = options_of(row["options"])
    facts = {
        Refusal.COLLECTED: row["digest"] not in (None, row["id"]),
        Refusal.CANCELLED: row["cancelled"],
        Refusal.RECALLED: row["recalled"],
        Refusal.ALREADY_RETRIED: row["resent"],
        Refusal.OTP_MESSAGE: "otp" in options,
        Refusal.IS_A_TEST: options.get(TEST) is True,
        Refusal.CONTENT_ERASED: row["empty"],
        Refusal.RECIPIENT_GONE: row["erased"] or row["gone"],
    }
    return next((refusal for refusal, true in facts.items() if true), None)


def _reopening(row: asyncpg.Record) -> Reopening:
    """`attempts` is the number of the last claim that handed something over; one claim at most came after it, and ended
    without."""
    lost, times = lost_of(row["lost"]), times_of(row)
    last = max([row["attempts"], *(one.attempt for one in lost)])
    return Reopening(
        row["id"], row["step"], row["channel"], row["account"], row["address"], row["locale"], last + 1,
        times.posted_lane, times.life, Status(row["ended"]), row["reason"], lost,
    )  # fmt: skip
