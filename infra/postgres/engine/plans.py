"""The plan step: load whom the plans are for, write what was decided, fenced by cohort and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.caps import Capped
from domain.channels import Channel
from domain.cohorts import CohortEpoch
from domain.ids import uuid7
from domain.planning import Person, Plan, PlannedStep
from domain.preferences import NO_PREFERENCES
from domain.states import Reason, Status
from domain.timeline import EventType, Stage
from domain.windows import PutOff
from infra.postgres.async_commit import ASYNC_COMMIT, SYNC_COMMIT
from infra.postgres.engine.caps import PersonKey, Taken, take, within_caps
from infra.postgres.engine.digests import close_digests, put_off_digests
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection, lock_notifications, over_free
from infra.postgres.users.choices import decode_preferences

_PERSONS = """
SELECT u.tenant, u.id, p.state, p.locale, p.time_zone, i.channels, i.addresses, f.choices
FROM unnest($1::text[], $2::text[]) u(tenant, id)
JOIN LATERAL (SELECT state, locale, time_zone FROM person WHERE tenant = u.tenant AND id = u.id OFFSET 0) p ON true
JOIN LATERAL (SELECT array_agg(channel ORDER BY is_primary DESC, created_at, id) AS channels,
                     array_agg(address ORDER BY is_primary DESC, created_at, id) AS addresses
              FROM (SELECT * FROM identity WHERE tenant = u.tenant AND person_id = u.id
                    ORDER BY channel, address, app OFFSET 0) own) i ON true
LEFT JOIN LATERAL (SELECT choices FROM preference WHERE tenant = u.tenant AND person_id = u.id OFFSET 0) f ON true"""
"""The inner order is that of the index by person: on an empty table any other index costs the planner as little."""

_MANDATORY = """
SELECT x.tenant, x.name FROM unnest($1::text[], $2::text[]) x(tenant, name)
JOIN LATERAL (SELECT mandatory FROM category WHERE tenant = x.tenant AND name = x.name OFFSET 0) c ON c.mandatory"""

_WRITE = f"""
WITH live AS MATERIALIZED (
    SELECT w.ctid AS tid, w.notification_id, w.tenant, w.lane, w.due_at, w.expires_at, w.attempt, w.version
    FROM unnest($3::uuid[]) x(id)
    JOIN LATERAL (SELECT ctid, * FROM work WHERE notification_id = x.id AND n = 0 AND state = 0 AND cohort = $1
                  OFFSET 0) w ON true
    WHERE EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)
),
gone AS (DELETE FROM work WHERE ctid = ANY (ARRAY(SELECT tid FROM live)) RETURNING notification_id),
steps AS (
    INSERT INTO work (notification_id, n, tenant, lane, channel, account, address, locale, chain, due_at, expires_at,
                      cohort, attempt, version, falls_back_at)
    SELECT l.notification_id, s.n, l.tenant, l.lane, s.channel, s.account, s.address, s.locale, s.chain,
           greatest(now(), s.due_at), l.expires_at, $1, l.attempt, l.version,
           greatest(now(), s.due_at) + s.fallback_after
    FROM unnest($4::uuid[], $5::smallint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::json[],
                $20::timestamptz[], $21::interval[])
         s(id, n, channel, account, address, locale, chain, due_at, fallback_after)
    JOIN live l ON l.notification_id = s.id
),
drops AS (
    INSERT INTO delivery (notification_id, n, tenant, channel, status, reason)
    SELECT l.notification_id, d.n, l.tenant, d.channel, d.status, d.reason
    FROM unnest($11::uuid[], $12::smallint[], $13::text[], $14::text[], $15::text[]) d(id, n, channel, status, reason)
    JOIN live l ON l.notification_id = d.id
    ON CONFLICT (notification_id, n) DO NOTHING
),
events AS (
    INSERT INTO event (notification_id, id, n, at, type, cohort, epoch, detail)
    SELECT l.notification_id, e.event, 0, now(), e.type, $1, $2, e.detail
    FROM unnest($16::uuid[], $17::uuid[], $18::text[], $19::json[]) e(id, event, type, detail)
    JOIN live l ON l.notification_id = e.id
)
SELECT notification_id FROM live WHERE (SELECT {ASYNC_COMMIT}) IS NOT NULL"""

_FAULTS = "SELECT faults FROM work WHERE notification_id = $1 AND n = 0 AND cohort = $2"

_FAULT = """
UPDATE work SET faults = faults + 1, due_at = now() + interval '5 seconds', cohort = NULL
WHERE notification_id = $1 AND n = 0 AND state = 0 AND cohort = $2"""


_PUT_OFF = """
UPDATE work SET due_at = now() + interval '5 seconds', cohort = NULL
WHERE ctid = ANY (ARRAY(
    SELECT w.tid FROM unnest($1::uuid[]) x(id)
    JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = x.id AND n = 0 AND state = 0 AND cohort = $2
                  OFFSET 0 FOR UPDATE SKIP LOCKED) w ON true))"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan for one notification, ready to be written."""

    notification_id: UUID
    plan: Plan
    accounts: Mapping[Channel, str]
    """Of every channel that the plan may open now."""
    capped: tuple[PersonKey, Capped] | None = None
    """The frequency caps that the plan is under, and whose they are."""
    fallback_after: timedelta | None = None
    """How long a place of its chain may wait unsent, from when it is due."""


def chain_json(chain: Sequence[PlannedStep]) -> str | None:
    """The rest of a fallback chain as it is kept in `work.chain`."""
    if not chain:
        return None
    return msgspec.json.encode([[step.n, step.channel, step.address] for step in chain]).decode()


def chain_steps(chain: str | None) -> tuple[PlannedStep, ...]:
    if not chain:
        return ()
    return tuple(PlannedStep(n, Channel(channel), address) for n, channel, address in msgspec.json.decode(chain))


class PlanRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def close_digests(self, cohort: UUID, carriers: Sequence[UUID]) -> frozenset[UUID]:
        """What comes from now on opens the next ones. Those that somebody keeps locked are put off, out of this cohort, and
        returned. Safe to repeat."""
        held = await close_digests(self._pool, carriers)
        if held:
            await self._pool.execute(_PUT_OFF, sorted(held), cohort)
        return held

    async def put_off_digests(self, cohort: CohortEpoch, *, waits: Mapping[UUID, PutOff]) -> set[UUID]:
        """Digests that may not go yet and are open collect until then; returns those. Safe to repeat."""
        return await put_off_digests(self._pool, waits, cohort=cohort)

    async def persons(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Person]:
        """Users by (tenant, id), with the first address on each channel; unknown ones are missing."""
        if not wanted:
            return {}
        rows = await self._pool.fetch(_PERSONS, [t for t, _ in wanted], [i for _, i in wanted])
        return {(row["tenant"], row["id"]): _person(row) for row in rows}

    async def mandatory(self, wanted: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these (tenant, category) that preferences do not stop."""
        if not wanted:
            return set()
        rows = await self._pool.fetch(_MANDATORY, [t for t, _ in wanted], [n for _, n in wanted])
        return {(row["tenant"], row["name"]) for row in rows}

    async def write(self, cohort: CohortEpoch, *, plans: Sequence[Planned]) -> int:
        """Replace each plan row by its steps, in one transaction; returns how many were still this epoch's to plan.

        What was cancelled, moved or planned meanwhile is left alone. Plans under frequency caps lose the steps for which
        there is no room; notifications without any step end here. What somebody keeps locked is put off, out of this
        cohort.
        """
        given = sorted(plans, key=lambda p: p.notification_id)

        async def unit(connection: Connection, ids: Sequence[UUID]) -> int:
            free = set(ids)
            wanted = [p for p in given if p.notification_id in free]
            capped = [p.capped for p in wanted if p.capped is not None]
            await lock_notifications(connection, ids)
            plans, taken = wanted, list[Taken]()
            if capped:
                before = {p.notification_id: p.plan for p in wanted}
                fitted, taken = await within_caps(connection, cohort.id, plans=before, capped=capped)
                plans = [replace(p, plan=fitted.get(p.notification_id, p.plan)) for p in wanted]
            rows = await connection.fetch(
                _WRITE, cohort.id, cohort.epoch, ids, *_step_columns(plans), *_drop_columns(plans), *_event_columns(plans),
                _due_column(plans), _fallback_column(plans),
            )  # fmt: skip
            written = {row["notification_id"] for row in rows}
            await take(connection, [(person, use) for person, use in taken if use.notification_id in written])
            stepless = {p.notification_id for p in plans if not p.plan.open}
            if ending := sorted(written & stepless):
                await connection.execute(SYNC_COMMIT)  # an end is told
                await decide_ends(connection, ending)
            return len(written)

        counts, held = await over_free(self._pool, [p.notification_id for p in given], unit)
        if held:
            await self._pool.execute(_PUT_OFF, sorted(held), cohort.id)
        return sum(counts)

    async def faults(self, notification_id: UUID, *, cohort: UUID) -> int:
        """How often planning this row has failed so far."""
        value: int | None = await self._pool.fetchval(_FAULTS, notification_id, cohort)
        return value or 0

    async def fault(self, notification_id: UUID, *, cohort: UUID) -> None:
        """Count a failure of ours in planning and put the row off by 5 s, out of this cohort."""
        await self._pool.execute(_FAULT, notification_id, cohort)


_CHANNELS = frozenset(Channel)


def _person(row: asyncpg.Record) -> Person:
    """With the first address on each channel that this version knows."""
    addresses: dict[Channel, str] = {}
    for channel, address in zip(row["channels"] or (), row["addresses"] or (), strict=True):
        if channel in _CHANNELS:
            addresses.setdefault(Channel(channel), address)
    preferences = NO_PREFERENCES if row["choices"] is None else decode_preferences(row["choices"])
    return Person(row["id"], row["state"] == "active", row["locale"], addresses, row["time_zone"], preferences)


def _step_columns(plans: Sequence[Planned]) -> tuple[list[Any], ...]:
    steps = [(p, s) for p in plans for s in p.plan.open]
    return (
        [p.notification_id for p, _ in steps],
        [s.n for _, s in steps],
        [s.channel for _, s in steps],
        [p.accounts[s.channel] for p, s in steps],
        [s.address for _, s in steps],
        [p.plan.locale or None for p, _ in steps],
        [chain_json(p.plan.chain) for p, _ in steps],
    )


def _due_column(plans: Sequence[Planned]) -> list[datetime | None]:
    """In the order of the steps; None is now."""
    return [p.plan.put_off.until if p.plan.put_off else None for p in plans for _ in p.plan.open]


def _fallback_column(plans: Sequence[Planned]) -> list[timedelta | None]:
    """In the order of the steps; None where nothing follows."""
    return [p.fallback_after if p.plan.chain else None for p in plans for _ in p.plan.open]


def _drop_columns(plans: Sequence[Planned]) -> tuple[list[Any], ...]:
    drops = [(p.notification_id, d) for p in plans for d in p.plan.drops]
    return (
        [i for i, _ in drops],
        [d.n for _, d in drops],
        [d.channel for _, d in drops],
        [d.status for _, d in drops],
        [d.reason for _, d in drops],
    )


def _event_columns(plans: Sequence[Planned]) -> tuple[list[Any], ...]:
    events = [(p.notification_id, kind, detail) for p in plans for kind, detail in _events(p.plan)]
    return (
        [i for i, _, _ in events],
        [uuid7() for _ in events],
        [kind for _, kind, _ in events],
        [msgspec.json.encode(detail).decode() for _, _, detail in events],
    )


def _events(plan: Plan) -> Iterator[tuple[EventType, dict[str, Any]]]:
    """That it was planned, and that its time has run out, where it has."""
    yield EventType.PLANNED, _planned_detail(plan)
    expired = [drop for drop in plan.drops if drop.status is Status.EXPIRED]
    if expired:
        reason = expired[0].reason
        stage = Stage.QUEUED if reason is Reason.EXPIRED_BEFORE_PLAN else Stage.PLANNED
        yield EventType.EXPIRED, {"stage": stage, "reason": reason, "channels": [drop.channel for drop in expired]}


def _planned_detail(plan: Plan) -> dict[str, Any]:
    detail: dict[str, Any] = {"channels": [s.channel for s in plan.open]}
    if plan.chain:
        detail["chain"] = [s.channel for s in plan.chain]
    if plan.drops:
        detail["drops"] = [{"channel": d.channel, "status": d.status, "reason": d.reason} for d in plan.drops]
    if plan.put_off is not None:
        detail["put_off"] = {"reason": plan.put_off.because, "until": plan.put_off.until.isoformat()}
    return detail
