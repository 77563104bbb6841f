"""Recall: cancel what is open, then take back what was handed over, where its channel can.

Three steps, each safe to repeat: what is open is stopped under the notification's lock; providers are asked without one;
what they took back is recorded under the lock again. A hand-over that is under way meanwhile ends in its flush, which
leaves a recalled record as it is. Whoever is cut off in between asks again and comes to the same end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import msgspec

from domain.channels import Channel
from domain.errors import NotFound
from domain.ids import uuid7
from domain.recall import ChannelRecall, recall_result
from domain.states import SUCCESS, Reason, Status
from domain.timeline import EventType
from infra.postgres.engine.cancelling import stop
from infra.postgres.engine.chains import forget_rest
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.locks import Connection, retried

_LOCK = """
SELECT status, final FROM notification WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL FOR UPDATE"""

_STEPS = """
SELECT coalesce(d.n, w.n) AS n, coalesce(d.channel, w.channel) AS channel, coalesce(d.tenant, w.tenant) AS tenant,
       coalesce(w.address, d.address) AS address, coalesce(w.account, d.account) AS account, d.status, d.reason,
       d.provider_id, coalesce(w.attempt, d.attempts) AS attempts, w.state = 1 AS in_flight
FROM (SELECT * FROM delivery WHERE notification_id = $1) d
FULL JOIN (SELECT * FROM work WHERE notification_id = $1 AND n > 0) w ON w.n = d.n
ORDER BY 1"""

_RECORD = """
INSERT INTO delivery AS d (notification_id, n, tenant, channel, account, address, status, reason, attempts)
SELECT $1, s.n, s.tenant, s.channel, s.account, s.address, $7, $8, s.attempts
FROM unnest($2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $9::smallint[])
     s(n, tenant, channel, account, address, attempts)
ON CONFLICT (notification_id, n) DO UPDATE SET status = EXCLUDED.status, reason = EXCLUDED.reason, updated_at = now()
WHERE d.status <> 'read'"""

_READ = "SELECT n FROM delivery WHERE notification_id = $1 AND status = 'read'"

_EVENT = """
INSERT INTO event (notification_id, id, n, at, type, detail)
SELECT $1, $2, 0, now(), $3, $4::json
WHERE NOT EXISTS (SELECT FROM event WHERE notification_id = $1 AND type = $3 AND detail::text = $4::text)"""


@dataclass(frozen=True, slots=True)
class RecallableStep:
    """One channel's message, as it stands after everything open was stopped."""

    n: int
    channel: Channel
    tenant: str
    account: str | None
    address: str
    status: Status
    """`processing`: it is being handed over at this moment."""
    reason: str | None
    provider_id: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """The notification after it, and what was achieved on each of its channels, by step."""

    status: Status
    channels: Mapping[int, ChannelRecall]


class RecallRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def stop(self, tenant: str, *, notification_id: UUID) -> Sequence[RecallableStep]:
        """Take back what was not handed over, as a cancellation does; returns all steps. Nothing follows any more, whatever
        is reported later, also of what had ended before. Raises NotFound."""

        async def unit(connection: Connection) -> Sequence[RecallableStep]:
            row = await _locked(connection, tenant, notification_id)
            if row["final"]:
                await forget_rest(connection, [notification_id])
            else:
                await stop(connection, notification_id)
            return [_step(found) for found in await connection.fetch(_STEPS, notification_id)]

        return await retried(self._pool, unit)

    async def record(
        self, tenant: str, *, notification_id: UUID, steps: Sequence[RecallableStep], channels: Mapping[int, ChannelRecall]
    ) -> Recalled:
        """Write down what was taken back, and in the timeline what was achieved. One that was read after all stays read."""

        async def unit(connection: Connection) -> Recalled:
            await _locked(connection, tenant, notification_id)
            back = [step for step in steps if channels[step.n] is ChannelRecall.RECALLED]
            await _record(connection, notification_id, back)
            await decide_ends(connection, [notification_id])
            read = {row["n"] for row in await connection.fetch(_READ, notification_id)}
            known = {n: ChannelRecall.ALREADY_READ if n in read else result for n, result in channels.items()}
            row = await _locked(connection, tenant, notification_id)
            ended = row["final"] or Status(row["status"]) in SUCCESS
            status = Status(row["status"]) if ended else Status.PROCESSING
            detail = {
                "answer": recall_result(list(known.values()), status=status),
                "channels": [{"n": s.n, "channel": s.channel, "result": known[s.n]} for s in steps],
            }
            event = (notification_id, uuid7(), EventType.RECALLED, msgspec.json.encode(detail).decode())
            await connection.execute(_EVENT, *event)
            return Recalled(status, known)

        return await retried(self._pool, unit)


async def _locked(connection: Connection, tenant: str, notification_id: UUID) -> asyncpg.Record:
    row = await connection.fetchrow(_LOCK, notification_id, tenant)
    if row is None:
        raise NotFound("There is no notification with this id.")
    return row


async def _record(connection: Connection, notification_id: UUID, steps: Sequence[RecallableStep]) -> None:
    if steps:
        await connection.execute(
            _RECORD, notification_id, [s.n for s in steps], [s.tenant for s in steps], [s.channel for s in steps],
            [s.account for s in steps], [s.address for s in steps], Status.CANCELLED, Reason.RECALLED_BY_REQUEST,
            [s.attempts for s in steps],
        )  # fmt: skip


def _step(row: asyncpg.Record) -> RecallableStep:
    status = Status.PROCESSING if row["in_flight"] else Status(row["status"])
    return RecallableStep(
        row["n"], Channel(row["channel"]), row["tenant"], row["account"], row["address"] or "", status, row["reason"],
        row["provider_id"], row["attempts"] or 0,
    )  # fmt: skip
