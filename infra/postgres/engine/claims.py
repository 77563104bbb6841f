"""The claim: who hands over which row, from this moment until `unknown_at`.

A claim repeats `state = 0` in the UPDATE itself and skips locked rows, because two overlapping attempts of one activity
otherwise both get them; it is fenced by (cohort, epoch); and it rechecks what may have changed since the plan: cancellation
(a row that was in flight then and came back unsent), expiry, suppression, the user's state, consent and quiet hours, the
version.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.attempts import Awaited
from domain.channels import Channel
from domain.lanes import CLAIM_WINDOW, FLUSH_MARGIN, POLICIES, Lane
from domain.planning import PlannedStep
from domain.preferences import NO_PREFERENCES, Wishes
from domain.results import ResultClass
from domain.states import Status
from domain.timeline import EventType
from domain.trials import LOCALE, TEST
from domain.windows import Hours, PutOff, Zones
from infra.postgres.choices import decode_preferences
from infra.postgres.engine.giving_back import Returned, give_back
from infra.postgres.engine.in_hand import IN_HAND_OF, OVERDUE, InHand
from infra.postgres.engine.locks import retried
from infra.postgres.engine.plans import chain_steps
from infra.postgres.engine.setting_aside import Unreadable, set_aside
from infra.postgres.errors import POISON
from infra.postgres.suppressions import digest_sql
from infra.postgres.windows import decode_window

_ROW = f"""
SELECT u.notification_id, u.n, u.tenant, u.lane, u.channel, u.account, u.address, u.locale, u.chain, u.attempt, u.failures,
       u.faults, u.expires_at, u.tried, u.awaiting, u.receipt, n.category, n.template, n.template_version, n.content,
       n.data, n.metadata, n.options, n.accepted_at, greatest(n.send_at, n.accepted_at) AS due_since, now() AS claimed_at,
       n.cancelled_at IS NOT NULL AS cancelled, u.expires_at <= now() AS expired, u.version <> n.version AS stale,
       n.user_id IS NOT NULL AND p.state IS DISTINCT FROM 'active' AS gone, p.name AS person_name,
       x.suppressed IS NOT NULL AS suppressed, p.time_zone, f.choices, coalesce(g.mandatory, false) AS mandatory,
       t.time_zone AS tenant_zone
FROM u
JOIN LATERAL (SELECT category, user_id, template, template_version, content, data, metadata, options, accepted_at,
                     send_at, version, cancelled_at FROM notification WHERE id = u.notification_id OFFSET 0) n ON true
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
                   WHERE n.options->'window' IS NOT NULL AND id = u.tenant OFFSET 0) t ON true"""
"""Of a person's choices only what concerns this notification: they may be many. Users without any cost one look into an
index."""

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

_CLAIM_ONE = _CLAIM.replace("    LIMIT $4", "      AND notification_id = $7 AND n = $8\n    LIMIT $4")

_DUE_KEYS = """
SELECT notification_id, n, attempt FROM work
WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now() LIMIT $3"""

_UNHEARD = (
    """
WITH u AS MATERIALIZED (
    SELECT * FROM work WHERE cohort = $1 AND account = $2 AND state = 1 AND unknown_at - start_by = $3
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

_ACCOUNTS = "SELECT DISTINCT account FROM work WHERE cohort = $1 AND n > 0 AND state = 0 AND due_at <= now()"

_TENANTS = """
SELECT DISTINCT tenant FROM work WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now()"""

_DUE = """
SELECT count(*) FROM (SELECT FROM work WHERE cohort = $1 AND account = $2 AND n > 0 AND state = 0 AND due_at <= now()
                      LIMIT $3) w"""

_DUE_ROWS = """
WITH s AS MATERIALIZED (
    SELECT ctid AS tid, notification_id, n FROM work
    WHERE cohort = $1 AND account = $3 AND n > 0 AND state = 0 AND due_at <= now()
      AND ($4::text[] IS NULL OR tenant = ANY ($4)) AND EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)
    ORDER BY notification_id FOR UPDATE SKIP LOCKED
)"""

_PARK = (
    _DUE_ROWS
    + """,
p AS MATERIALIZED (
    SELECT tid, now() + $5::interval + $6::interval * (row_number() OVER (ORDER BY notification_id) - 1) AS due FROM s
)
UPDATE work w SET due_at = least(p.due, w.expires_at) FROM p WHERE w.ctid = p.tid AND w.state = 0"""
)
"""Each to the moment when its turn comes; all at the same moment would only be parked again."""

_MOVE = (
    _DUE_ROWS
    + """,
moved AS (
    UPDATE work SET account = $5 WHERE ctid = ANY (ARRAY(SELECT tid FROM s)) AND state = 0 RETURNING notification_id, n
)
INSERT INTO event (notification_id, id, n, at, type, cohort, epoch, detail)
SELECT notification_id, gen_random_uuid(), n, now(), $6, $1, $2, $7::json FROM moved"""
)


class Verdict(StrEnum):
    """What the recheck at the moment of hand-over says."""

    SEND = "send"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    GONE = "gone"
    SUPPRESSED = "suppressed"
    OPTED_OUT = "opted_out"
    NOT_NOW = "not_now"
    """The person's quiet hours hold, or the window in which it may be sent is closed."""
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Claim:
    """One row in our hands, with all that rendering and sending need."""

    notification_id: UUID
    n: int
    attempt: int
    tenant: str
    lane: Lane
    channel: Channel
    account: str
    address: str
    locale: str
    chain: tuple[PlannedStep, ...]
    tried: tuple[str, ...]
    """Accounts that failed since the last wait."""
    awaiting: bool
    """It was handed over, and its receipt is overdue."""
    receipt: str | None
    """Or what it has said: DELIVERED, where it waits for being read, or the class of the failure. OK where it is not waited
    for: a message is out there, and this one goes over another account all the same."""
    awaits: Awaited | None
    """The receipt by which the chain goes on if it does not come."""
    failures: int
    faults: int
    expires_at: datetime
    accepted_at: datetime
    category: str
    person_name: str | None
    template: str | None
    template_version: int | None
    content: str | None
    """As stored, JSON; `data` and `metadata` too. Decoded one by one when rendered, so that a bad one fails alone."""
    data: str | None
    metadata: str | None
    resend_unknown: bool
    verdict: Verdict
    due_since: datetime
    """When it was first due: accepted, or the time it was sent for."""
    claimed_at: datetime
    """By the database's clock, which computes all due times."""
    test: bool
    """A test-send made it: its title says so."""
    permitted: frozenset[Channel]
    """Channels of the chain that the person's preferences permit at this moment."""
    put_off: PutOff | None
    """Until when it has to wait at this moment, and why; None: it may go."""
    digest: bool
    """It asked for a digest: its template gets the items."""
    claimed_s: float
    """time.monotonic() of about the same moment, and not later: a wait that a provider stated is never cut short."""
    otp_id: UUID | None = None
    """The one-time code that the message carries; it is put in when the message is rendered."""

    @property
    def step(self) -> tuple[UUID, int]:
        return self.notification_id, self.n

    def database_time(self, at_s: float) -> datetime:
        """What the database's clock says at time.monotonic() = `at_s`, whatever this machine's own clock says."""
        return self.claimed_at + timedelta(seconds=at_s - self.claimed_s)


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

    async def accounts(self, cohort: UUID) -> list[str]:
        """Accounts over which a row of the cohort is due now."""
        return [row["account"] for row in await self._pool.fetch(_ACCOUNTS, cohort)]

    async def tenants(self, cohort: UUID, *, account: str) -> list[str]:
        """Whose rows of the cohort are due over this account."""
        return [row["tenant"] for row in await self._pool.fetch(_TENANTS, cohort, account)]

    async def due(self, cohort: UUID, *, account: str, limit: int) -> int:
        """How many rows are due over this account, counted up to `limit`."""
        count: int = await self._pool.fetchval(_DUE, cohort, account, limit)
        return count

    async def park(
        self,
        cohort: UUID,
        *,
        epoch: int,
        account: str,
        wait: timedelta,
        spacing: timedelta,
        tenants: Sequence[str] | None = None,
    ) -> None:
        """Put off what is due over this account: the first by `wait`, each further one by `spacing` more. Of these tenants;
        None: of all."""
        arguments = (cohort, epoch, account, tenants, wait, spacing)
        await retried(self._pool, lambda connection: connection.execute(_PARK, *arguments))

    async def move(
        self,
        cohort: UUID,
        *,
        epoch: int,
        account: str,
        to: str,
        detail: Mapping[str, Any],
        tenants: Sequence[str] | None = None,
    ) -> None:
        """What is due over this account goes over another, which these tenants may use, and the timeline says why
        (`detail`)."""
        told = msgspec.json.encode(detail).decode()
        arguments = (cohort, epoch, account, tenants, to, EventType.FAILOVER, told)
        await retried(self._pool, lambda connection: connection.execute(_MOVE, *arguments))

    async def claim(
        self,
        cohort: UUID,
        *,
        epoch: int,
        account: str,
        limit: int,
        call_timeout: timedelta,
        mark: timedelta = timedelta(0),
        singly: bool = False,
    ) -> Claimed:
        """Take at most `limit` due rows; none when the epoch has been replaced. The caller starts each within
        `CLAIM_WINDOW` or gives it back, and flushes its outcome before `unknown_at` passes. `mark`: see `unheard`.

        Raises one of `POISON` where a row cannot be claimed; then none was. `singly`: each in a statement of its own, and
        such a row is among the unreadable.
        """
        times = (CLAIM_WINDOW, _answers_within(call_timeout) + mark)
        now_s = time.monotonic()
        if not singly:
            return _read(await self._pool.fetch(_CLAIM, cohort, epoch, account, limit, *times), now_s=now_s)
        rows, poisoned = list[asyncpg.Record](), list[Unreadable]()
        for key in await self._pool.fetch(_DUE_KEYS, cohort, account, limit):
            try:
                rows += await self._pool.fetch(
                    _CLAIM_ONE, cohort, epoch, account, 1, *times, key["notification_id"], key["n"]
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
        set, `activities.losses` knows."""
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
        await give_back(self._pool, claims)


def _answers_within(call_timeout: timedelta) -> timedelta:
    return CLAIM_WINDOW + call_timeout + FLUSH_MARGIN


def _read(rows: Sequence[asyncpg.Record], *, now_s: float) -> Claimed:
    """One that cannot be read spoils no other: they are in our hands already."""
    claims, unreadable = list[Claim](), list[Unreadable]()
    for row in rows:
        try:
            claims.append(_claim(row, now_s=now_s))
        except Exception as error:
            unreadable.append(_unreadable(row, error))
    return Claimed(claims, unreadable)


def _unreadable(row: asyncpg.Record, error: Exception) -> Unreadable:
    return Unreadable(row["notification_id"], row["n"], row["attempt"], type(error).__name__)


def _verdict(row: asyncpg.Record, *, permitted: bool, waits: bool) -> Verdict:
    if row["cancelled"]:
        return Verdict.CANCELLED
    if row["stale"]:
        return Verdict.STALE
    if row["gone"]:
        return Verdict.GONE
    if row["expired"]:
        return Verdict.EXPIRED
    if row["suppressed"]:
        return Verdict.SUPPRESSED
    if not permitted:
        return Verdict.OPTED_OUT
    return Verdict.NOT_NOW if waits else Verdict.SEND


def _wishes(row: asyncpg.Record) -> Wishes:
    """What the person wants by now."""
    preferences = NO_PREFERENCES if row["choices"] is None else decode_preferences(row["choices"])
    return Wishes(preferences, row["category"], row["mandatory"])


def _options(stored: str | None) -> dict[str, Any]:
    found = msgspec.json.decode(stored) if stored else None
    return found if isinstance(found, dict) else {}


def awaited_by(options: Mapping[str, Any]) -> Awaited | None:
    """What a notification's chain waits for, by its options."""
    after = options.get("fallback_after")
    if after is None:
        return None
    status = Status.READ if options.get("fallback_on") == "not_read" else Status.DELIVERED
    return Awaited(status, msgspec.convert(after, timedelta))


def _known(receipt: str | None) -> str | None:
    if receipt is None or receipt == Status.DELIVERED:
        return receipt
    return ResultClass(receipt)


def _claim(row: asyncpg.Record, *, now_s: float) -> Claim:
    lane = Lane(row["lane"])
    options = _options(row["options"])
    on_unknown, otp_id = options.get("on_unknown"), options.get("otp")
    wishes, chain = _wishes(row), chain_steps(row["chain"])
    channel = Channel(row["channel"])
    zones = Zones(row["time_zone"] or "", row["tenant_zone"] or "")
    put_off = Hours(lane, row["expires_at"], wishes, zones, decode_window(options.get("window"))).put_off(row["claimed_at"])
    return Claim(
        notification_id=row["notification_id"],
        n=row["n"],
        attempt=row["attempt"],
        tenant=row["tenant"],
        lane=lane,
        channel=channel,
        account=row["account"],
        address=row["address"],
        locale=options.get(LOCALE) or row["locale"] or "",
        chain=chain,
        tried=tuple(row["tried"] or ()),
        awaiting=row["awaiting"],
        receipt=_known(row["receipt"]),
        awaits=awaited_by(options),
        failures=row["failures"],
        faults=row["faults"],
        expires_at=row["expires_at"],
        accepted_at=row["accepted_at"],
        category=row["category"],
        person_name=row["person_name"],
        template=row["template"],
        template_version=row["template_version"],
        content=row["content"],
        data=row["data"],
        metadata=row["metadata"],
        resend_unknown=POLICIES[lane].resend_unknown if on_unknown is None else on_unknown == "resend",
        verdict=_verdict(row, permitted=wishes.permit(channel), waits=put_off is not None),
        test=options.get(TEST) is True,
        digest="digest" in options,
        due_since=row["due_since"],
        claimed_at=row["claimed_at"],
        permitted=frozenset(step.channel for step in chain if wishes.permit(step.channel)),
        put_off=put_off,
        claimed_s=now_s,
        otp_id=UUID(otp_id) if otp_id else None,
    )
