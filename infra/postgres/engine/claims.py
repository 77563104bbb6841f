"""The claim: who hands over which row, from this moment until `unknown_at`.

A claim repeats `state = 0` in the UPDATE itself and skips locked rows, because two overlapping attempts of one activity
otherwise both get them; it is fenced by (cohort, epoch); and it rechecks what may have changed since the plan: cancellation
(a row that was in flight then and came back unsent), expiry, suppression, the user's state, consent and quiet hours, the
version.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from domain.cohorts import CohortEpoch
from domain.lanes import CLAIM_WINDOW, FLUSH_MARGIN
from domain.shares import Blocked
from infra.postgres.engine.account_queue import NEVER_CALLS, NO_CALL, AccountQueue, blocked_columns, blocked_for, bound_of
from infra.postgres.engine.claimed import Claim, claim_of
from infra.postgres.engine.giving_back import Returned, give_back
from infra.postgres.engine.in_hand import IN_HAND_OF, OVERDUE, InHand
from infra.postgres.engine.locks import HeldLately
from infra.postgres.engine.setting_aside import Unreadable, set_aside
from infra.postgres.errors import POISON
from infra.postgres.users.suppressions import digest_sql

_ROW = f"""
SELECT u.notification_id, u.n, u.tenant, u.lane, u.channel, u.account, u.address, u.locale, u.chain, u.attempt, u.failures,
       u.faults, u.expires_at, u.start_by, u.tried, u.awaiting, u.receipt, {bound_of("u")} AS falls_back_at, n.category,
       n.template, n.template_version, n.content, n.data, n.metadata, n.options, n.strategy,
       cardinality(n.channels) AS places, n.accepted_at, greatest(n.send_at, n.accepted_at) AS due_since,
       now() AS claimed_at, n.cancelled_at IS NOT NULL AS cancelled,
       u.expires_at <= now() AS expired, u.version <> n.version AS stale,
       n.user_id IS NOT NULL AND p.state IS DISTINCT FROM 'active' AS gone, p.name AS person_name,
       x.suppressed IS NOT NULL AS suppressed, p.time_zone, f.choices, coalesce(g.mandatory, false) AS mandatory,
       t.time_zone AS tenant_zone, r.throttled, r.lost
FROM u
JOIN LATERAL (SELECT category, user_id, template, template_version, content, data, metadata, options, accepted_at,
                     send_at, version, cancelled_at, strategy, channels
              FROM notification WHERE id = u.notification_id OFFSET 0) n ON true
LEFT JOIN LATERAL (SELECT state, name, time_zone FROM person WHERE tenant = u.tenant AND id = n.user_id OFFSET 0) p ON true
LEFT JOIN LATERAL (SELECT 1 AS suppressed FROM suppression
                   WHERE tenant = u.tenant AND channel = u.channel
                     AND address IN (u.address,
                                     {digest_sql(tenant="u.tenant", channel="u.channel", address="u.address")})
                   LIMIT 1) x ON true
LEFT JOIN LATERAL (SELECT jsonb_build_object('channels', coalesce(choices->'channels', '{{}}'), 'categories',
                              CASE WHEN choices->'categories' ? n.category
                                   THEN jsonb_build_object(n.category, choices->'categories'->n.category) ELSE '{{}}' END,
                              'quiet_hours', choices->'quiet_hours') AS choices
                   FROM preference WHERE tenant = u.tenant AND person_id = n.user_id OFFSET 0) f ON true
LEFT JOIN LATERAL (SELECT mandatory FROM category
                   WHERE f.choices IS NOT NULL AND tenant = u.tenant AND name = n.category OFFSET 0) g ON true
LEFT JOIN LATERAL (SELECT time_zone FROM tenant
                   WHERE n.options->'window' IS NOT NULL AND id = u.tenant OFFSET 0) t ON true
LEFT JOIN LATERAL (SELECT lost,
                          CASE WHEN u.attempt - u.failures > 1 AND attempts = u.attempt - 1 AND status = 'retrying'
                                AND class = 'RATE' THEN u.due_at - updated_at END AS throttled
                   FROM delivery WHERE u.attempt > 1 AND notification_id = u.notification_id AND n = u.n
                   OFFSET 0) r ON true"""
"""Of a person's choices only what concerns this notification: they may be many. Users without any cost one look into an
index. Into its record nobody looks at a first claim."""

_CLAIM = (
    """
WITH s AS MATERIALIZED (
    SELECT ctid AS tid FROM work
    WHERE cohort = $1 AND account = $3 AND n > 0 AND state = 0 AND due_at <= now()
      AND EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)
    LIMIT $4 FOR UPDATE SKIP LOCKED
),
u AS (
    UPDATE work SET state = 1, attempt = attempt + 1, start_by = now() + $5, unknown_at = now() + $6
    WHERE ctid = ANY (ARRAY(SELECT tid FROM s)) AND cohort = $1 AND state = 0
    RETURNING *
)"""
    + _ROW
)
"""In no order: a claim that sorted would read all that is left of its cohort (28 rows for each that was claimed). What is
locked is skipped, so that nobody waits for anybody and the order of locks does not matter."""

_CLAIM_OTHERS = _CLAIM.replace(
    "    LIMIT $4", f"      AND ({NEVER_CALLS} OR {blocked_for('work', first=7)} IS NULL)\n    LIMIT $4"
)
"""The same, but of nothing that is blocked."""

_CLAIM_PROBE = _CLAIM.replace(
    "    LIMIT $4", f"      AND NOT {NEVER_CALLS} AND failures <= $7\n    ORDER BY failures, expires_at LIMIT $4"
)
"""The same, for the one call of an account whose circuit is half open, and in an order: what has failed least, and of that
what has the least time. Once an opening, so that it may sort what waits. It takes nothing that would make no call."""

_CLAIM_OTHERS_PROBE = _CLAIM_PROBE.replace(
    "    ORDER BY failures", f"      AND {blocked_for('work', first=8)} IS NULL\n    ORDER BY failures"
)
"""The same, but nothing that is blocked."""

_CLAIM_UNCALLED = _CLAIM.replace("    LIMIT $4", f"      AND {NO_CALL}\n    LIMIT $4")
"""The same, but only of what needs no call."""

_CLAIM_ONE = _CLAIM.replace("    LIMIT $4", "      AND notification_id = $7 AND n = $8\n    LIMIT $4")

_DUE_KEYS = """
SELECT notification_id, n, attempt, faults FROM work
WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now() LIMIT $3"""

_UNCALLED_KEYS = _DUE_KEYS.replace(" LIMIT $3", f" AND {NO_CALL} LIMIT $3")

_UNHEARD = (
    """
WITH u AS MATERIALIZED (
    SELECT * FROM (SELECT * FROM work WHERE cohort = $1 OFFSET 0) w
    WHERE account = $2 AND state = 1 AND unknown_at - start_by = $3
)"""
    + _ROW
)
"""A claim is known by the span between its two times, to the microsecond (`mark`): that needs no column, no write, and no
clock, and an older version's claims, which have no mark, are never taken for one."""

_LOST = (
    """
WITH u AS MATERIALIZED (
    SELECT w.* FROM unnest($1::uuid[], $2::smallint[], $3::smallint[]) x(id, n, attempt)
    JOIN LATERAL (SELECT * FROM work WHERE notification_id = x.id AND n = x.n AND attempt = x.attempt
                  AND state = 1 AND unknown_at <= now() OFFSET 0) w ON true
)"""
    + _ROW
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """Rows in our hands."""

    claims: Sequence[Claim] = ()
    unreadable: Sequence[Unreadable] = ()
    """What this version cannot read; it is to go back (`set_aside`)."""


def new_mark() -> timedelta:
    """What tells one claim from the others of its cohort that are in hand at the same time; under a second."""
    return timedelta(microseconds=random.randrange(1, 1_000_000))


class ClaimRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.queue = AccountQueue(pool)
        self._lately = HeldLately()

    async def claim(
        self,
        cohort: CohortEpoch,
        *,
        account: str,
        limit: int,
        call_timeout: timedelta,
        mark: timedelta = timedelta(0),
        singly: bool = False,
        without: Sequence[Blocked] = (),
        uncalled: bool = False,
        probing: int | None = None,
    ) -> Claimed:
        """Take at most `limit` due rows, none of what is blocked (`uncalled`: only of what needs no call; `probing`: only
        of what has at most so many failures, those with the fewest); none when the epoch has been replaced. The caller
        starts each within `CLAIM_WINDOW` or gives it back, and flushes its outcome before
        `unknown_at` passes. `mark`: see `unheard`.

        Raises one of `POISON` where a row cannot be claimed; then none was. `singly`: each in a statement of its own, and
        such a row is among the unreadable.
        """
        times = (CLAIM_WINDOW, _answers_within(call_timeout) + mark)
        now_s = time.monotonic()
        if not singly:
            statement, more = _claim_of(uncalled=uncalled, probing=probing, without=without)
            rows = await self._pool.fetch(statement, cohort.id, cohort.epoch, account, limit, *times, *more)
            return _read(rows, now_s=now_s)
        rows, poisoned = [], list[Unreadable]()
        for key in await self._pool.fetch(_UNCALLED_KEYS if uncalled else _DUE_KEYS, cohort.id, account, limit):
            try:
                rows += await self._pool.fetch(
                    _CLAIM_ONE, cohort.id, cohort.epoch, account, 1, *times, key["notification_id"], key["n"]
                )
            except POISON as error:
                poisoned.append(_unreadable(key, error))
        read = _read(rows, now_s=now_s)
        return Claimed(read.claims, [*read.unreadable, *poisoned])

    async def unheard(self, cohort: UUID, *, account: str, call_timeout: timedelta, mark: timedelta) -> Claimed:
        """What the claim with this `mark` has taken and nobody has given back or brought home since: where its reply was
        lost, what it replied."""
        span = _answers_within(call_timeout) - CLAIM_WINDOW + mark
        now_s = time.monotonic()
        return _read(await self._pool.fetch(_UNHEARD, cohort, account, span), now_s=now_s)

    async def in_hand(self, cohort: UUID | None, *, limit: int) -> list[InHand]:
        """The cohort's claims without an outcome. None: of any, those whose `unknown_at` has passed, longest first."""
        fetched = self._pool.fetch(OVERDUE, limit) if cohort is None else self._pool.fetch(IN_HAND_OF, cohort, limit)
        return [InHand(row["notification_id"], row["n"], row["attempt"], row["account"]) for row in await fetched]

    async def lost(self, claims: Sequence[InHand]) -> Claimed:
        """Those of them that are still in hand and whose `unknown_at` has passed. Whether the clock that says so has been
        set, `activities.handing_over.losses` knows."""
        now_s = time.monotonic()
        rows = await self._pool.fetch(
            _LOST, [c.notification_id for c in claims], [c.n for c in claims], [c.attempt for c in claims]
        )
        return _read(rows, now_s=now_s)

    async def set_aside(self, rows: Sequence[Unreadable], *, sent: bool = False) -> None:
        """Give back what cannot be read, for others, or end it. `sent`: it was handed over, and is lost."""
        await set_aside(self._pool, rows, sent=sent)

    async def give_back(self, claims: Sequence[Returned]) -> None:
        """Undo claims whose first byte was never written; `attempt` fences, so a later claim is left alone."""
        await give_back(self._pool, claims, lately=self._lately)


def _claim_of(*, uncalled: bool, probing: int | None, without: Sequence[Blocked]) -> tuple[str, tuple[object, ...]]:
    """The statement for such a claim, and the parameters that not each of them has."""
    others = blocked_columns(without) if without else ()
    if uncalled:
        return _CLAIM_UNCALLED, ()
    if probing is not None:
        return _CLAIM_OTHERS_PROBE if without else _CLAIM_PROBE, (probing, *others)
    return _CLAIM_OTHERS if without else _CLAIM, others


def _answers_within(call_timeout: timedelta) -> timedelta:
    return CLAIM_WINDOW + call_timeout + FLUSH_MARGIN


def _read(rows: Sequence[asyncpg.Record], *, now_s: float) -> Claimed:
    """One that cannot be read spoils no other: they are in our hands already."""
    claims, unreadable = list[Claim](), list[Unreadable]()
    for row in rows:
        try:
            claims.append(claim_of(row, now_s=now_s))
        except Exception as error:
            unreadable.append(_unreadable(row, error))
    return Claimed(claims, unreadable)


def _unreadable(row: asyncpg.Record, error: Exception) -> Unreadable:
    return Unreadable(row["notification_id"], row["n"], row["attempt"], row["faults"], type(error).__name__)
