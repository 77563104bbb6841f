"""The flush: what happened to many steps, recorded in one transaction.

An outcome is matched by (notification, n, attempt) and not by epoch: what really happened is never fenced away. A late
outcome of an attempt that was given up as unknown still corrects the record, and a success takes back a resend that has
not begun. Who may still change what is decided by `domain`, under the notifications' locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import asyncpg
import msgspec

from domain.planning import PlannedStep
from domain.results import ResultClass
from domain.states import FINAL, SUCCESS, Reason, Status, merge
from domain.timeline import EventType
from infra.postgres.engine.chains import Rest, leave_rest, satisfied
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.linking import handed, link
from infra.postgres.engine.locks import Connection, lock_and_look, retried
from infra.postgres.engine.plans import chain_json
from infra.postgres.engine.receipts import take_in_reported
from infra.postgres.engine.step_outcome import StepOutcome, TimelineEvent
from infra.postgres.engine.stopping import stopped
from infra.postgres.engine.suppressing import suppress

_MATCH = """
SELECT w.state, w.attempt, w.tenant, w.lane, w.expires_at, w.cohort, w.version, w.locale, w.awaiting,
       w.receipt, d.status, d.reason, d.attempts
FROM unnest($1::uuid[], $2::smallint[]) WITH ORDINALITY o(id, n, place)
LEFT JOIN LATERAL (SELECT * FROM work WHERE notification_id = o.id AND n = o.n FOR UPDATE) w ON true
LEFT JOIN LATERAL (SELECT status, reason, attempts FROM delivery WHERE notification_id = o.id AND n = o.n OFFSET 0) d
     ON true
ORDER BY o.place"""

_END = """
DELETE FROM work WHERE ctid = ANY (ARRAY(
    SELECT w.tid FROM unnest($1::uuid[], $2::smallint[]) o(id, n)
    JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = o.id AND n = o.n OFFSET 0) w ON true))"""

_AGAIN = """
UPDATE work w SET state = 0, due_at = a.due_at, failures = a.failures, start_by = NULL, unknown_at = NULL,
       account = coalesce(a.account, w.account), tried = string_to_array(a.tried, E'\\n'), awaiting = a.awaiting,
       receipt = a.receipt
FROM (SELECT r.tid, o.*
      FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::smallint[], $5::text[], $6::text[], $7::bool[],
                  $8::text[]) o(id, n, due_at, failures, account, tried, awaiting, receipt)
      JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = o.id AND n = o.n OFFSET 0) r ON true) a
WHERE w.ctid = a.tid"""

_LOOK_AGAIN = """
UPDATE work SET state = 0, due_at = now(), start_by = NULL, unknown_at = NULL, awaiting = true,
       receipt = coalesce(nullif(receipt, 'OK'), 'delivered')
WHERE ctid = ANY (ARRAY(
    SELECT w.tid FROM unnest($1::uuid[], $2::smallint[]) o(id, n)
    JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = o.id AND n = o.n OFFSET 0) w ON true))"""

_OPEN = """
INSERT INTO work (notification_id, n, tenant, lane, channel, account, address, locale, chain, due_at, expires_at, cohort,
                  version)
SELECT id, n, tenant, lane, channel, account, address, locale, chain, now(), expires_at, cohort, version
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::json[], $10::timestamptz[], $11::uuid[], $12::smallint[])
     s(id, n, tenant, lane, channel, account, address, locale, chain, expires_at, cohort, version)
ON CONFLICT DO NOTHING"""

_RECORD = """
INSERT INTO delivery AS d (notification_id, n, tenant, channel, provider, account, address, status, reason, class, code,
                           attempts, provider_id, sent_at, delivered_at, updated_at, receipt_until)
SELECT id, n, tenant, channel, provider, account, address, status, reason, class, code, attempts, provider_id,
       CASE WHEN status IN ('sent', 'delivered') THEN now() - age END,
       CASE status WHEN 'delivered' THEN now() - age END, now(), CASE status WHEN 'sent' THEN now() - age + window_ END
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::smallint[], $13::text[], $14::interval[], $15::interval[])
     o(id, n, tenant, channel, provider, account, address, status, reason, class, code, attempts, provider_id, age,
       window_)
ON CONFLICT (notification_id, n) DO UPDATE SET
    provider = EXCLUDED.provider, account = EXCLUDED.account, address = EXCLUDED.address, status = EXCLUDED.status,
    reason = EXCLUDED.reason, class = coalesce(EXCLUDED.class, d.class), code = coalesce(EXCLUDED.code, d.code),
    attempts = EXCLUDED.attempts,
    provider_id = coalesce(EXCLUDED.provider_id, d.provider_id), sent_at = coalesce(d.sent_at, EXCLUDED.sent_at),
    delivered_at = coalesce(d.delivered_at, EXCLUDED.delivered_at), updated_at = now(),
    receipt_until = CASE EXCLUDED.status WHEN 'sent' THEN greatest(d.receipt_until, EXCLUDED.receipt_until) END"""

_EVENTS = """
INSERT INTO event (notification_id, id, n, at, type, cohort, epoch, detail)
SELECT id, event, n, now() - age, type, cohort, epoch, detail
FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::interval[], $5::text[], $6::uuid[], $7::int[], $8::json[])
     e(id, event, n, age, type, cohort, epoch, detail)
ON CONFLICT DO NOTHING"""

_FOR_GOOD = frozenset({Reason.RECIPIENT_REFUSED, Reason.CONTENT_REFUSED})
_MAY_FAIL = frozenset({Status.SENT, Status.UNKNOWN})  # ends that a receipt may correct to a failure


@dataclass(frozen=True)
class _Match:
    """What the database knows of the step at the moment of the flush, its locks held."""

    outcome: StepOutcome
    row: asyncpg.Record
    erased: bool
    """Its recipient was erased meanwhile: what happened is recorded without the address."""

    @property
    def mine(self) -> bool:
        same: bool = self.row["attempt"] == self.outcome.claim.attempt
        return same and self.row["state"] == 1

    @property
    def stands(self) -> bool:
        """An assumption gives way to whatever was recorded meanwhile; what happened is always recorded."""
        return self.mine or not self.outcome.assumed

    @property
    def arrived(self) -> bool:
        """An earlier attempt of this step is known to have succeeded: nothing may follow this one. Where a receipt is
        waited for, the provider's taking it is not enough."""
        if self.row["status"] not in SUCCESS:
            return False
        awaits = self.outcome.awaits
        return awaits is None or awaits.met_by(Status(self.row["status"]))

    @property
    def looks_again(self) -> bool:
        """A receipt has come meanwhile that this knows nothing of: what follows is decided anew, at once. One that is known
        to have been delivered is not sent again, though it is waited for being read."""
        if not self.mine or self.arrived:
            return False
        claim, decision = self.outcome.claim, self.outcome.decision
        if claim.awaiting:
            return bool(self.row["receipt"] != claim.receipt)
        sent_again = decision.due_at is not None and not decision.awaiting
        return sent_again and self.row["status"] == Status.DELIVERED

    @property
    def settles(self) -> bool:
        """An attempt that was called lost was refused for good: its resend, which has not begun, cannot help."""
        decision = self.outcome.decision
        for_good = decision.status is Status.FAILED and decision.reason in _FOR_GOOD and self.outcome.result is not None
        waits = self.row["state"] == 0 and not self.row["awaiting"] and self.row["status"] == Status.RETRYING
        return for_good and waits and not self.mine and self.row["attempts"] == self.outcome.claim.attempt

    @property
    def ends(self) -> bool:
        """The work row goes: this attempt was the last, or it succeeded, or was refused, before its own resend began."""
        if self.mine:
            return not self.looks_again and (self.arrived or self.outcome.decision.due_at is None)
        return self.settles or (self._outruns_its_resend and not self.outcome.decision.awaiting)

    @property
    def stays(self) -> bool:
        """The work row is due again: for a retry, or when the receipt is overdue."""
        if self.mine:
            return not self.ends and not self.looks_again
        return self._outruns_its_resend and self.outcome.decision.awaiting

    @property
    def on_top(self) -> bool:
        """It will be handed over although a message of it is out there, because no receipt came of that one."""
        return self.mine and self.row["status"] in SUCCESS and not self.outcome.decision.awaiting

    @property
    def _outruns_its_resend(self) -> bool:
        """It succeeded after it was given up, and before its resend began."""
        if self.row["state"] != 0 or self.outcome.decision.status not in SUCCESS:
            return False
        reopened: bool = self.row["attempt"] >= self.outcome.claim.attempt
        return reopened

    @property
    def follows(self) -> bool:
        """The next place of the chain is opened."""
        if not (self.settles or (self.mine and not self.arrived and not self.looks_again)):
            return False
        return self.outcome.decision.falls_back and bool(self.outcome.claim.chain)

    @cached_property
    def status(self) -> Status | None:
        """The delivery's state after this; None changes nothing."""
        if self.row["reason"] == Reason.RECALLED_BY_REQUEST:
            return None  # it was taken back while this was on its way, and will not be seen
        news = self.outcome.decision.status
        if self.outcome.puts_off:
            return None  # nothing was tried, and what an earlier attempt brought stands
        if self.settles:
            return news
        if self.mine and self.outcome.claim.awaiting:
            return self._looked
        if not self.mine and self.row["state"] is not None and news not in SUCCESS:
            return None  # a later attempt is open and will say how it ends
        if self.row["status"] is None:
            return news if self.mine or news in SUCCESS else None
        known = Status(self.row["status"])
        if self.mine or (known is Status.RETRYING and news in SUCCESS):
            return merge(known, news) if known in SUCCESS else news
        if known is Status.UNKNOWN and self.row["attempts"] == self.outcome.claim.attempt:
            return news if news in FINAL else Status.FAILED
        better = merge(known, news)
        return better if better is not known else None

    @property
    def _looked(self) -> Status | None:
        """A claim that only looks hands nothing over: its step ends as it is known, or as its receipt says."""
        news = self.outcome.decision.status
        return news if self.row["status"] == Status.RETRYING and self.ends and news not in SUCCESS else None

    @property
    def reason(self) -> Reason | None:
        """Why, unless it arrived. An answer that asks for a retry after its step was closed comes too late for one."""
        if self.status in SUCCESS:
            return None
        return self.outcome.decision.reason or (Reason.ANSWER_LOST if self.status is Status.FAILED else None)

    @property
    def rest(self) -> Rest | None:
        """What is left of its chain where it ends here, and may turn out to have failed."""
        claim, over = self.outcome.claim, self.ends and not self.follows and self.status in _MAY_FAIL
        chain = chain_json(claim.chain) if over and self.outcome.window is not None and not self.erased else None
        failures = self.outcome.decision.failures
        return Rest(chain, self.row["attempt"], self.row["locale"], failures, claim.tried) if chain else None

    @property
    def events(self) -> Sequence[TimelineEvent]:
        """What the timeline says: that it goes on, over another channel or account, only where it does."""
        untrue = {EventType.FALLBACK: not self.follows, EventType.FAILOVER: not self.stays}
        return [e for e in self.outcome.events if not untrue.get(e.type, False)]


class OutcomeRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        """Record all, in one transaction; safe to repeat after a lost answer. `now_s` is time.monotonic()."""
        outcomes = sorted(outcomes, key=lambda o: (o.claim.notification_id, o.claim.n, o.claim.attempt))
        ids = sorted({o.claim.notification_id for o in outcomes})

        async def unit(connection: Connection) -> None:
            locked = await lock_and_look(connection, ids)
            rows = await connection.fetch(
                _MATCH, [o.claim.notification_id for o in outcomes], [o.claim.n for o in outcomes]
            )
            matches = [
                _Match(
                    stopped(o) if o.claim.notification_id in locked.cancelled else o,
                    row,
                    erased=o.claim.notification_id in locked.erased,
                )
                for o, row in zip(outcomes, rows, strict=True)
            ]
            matches = await _unless_satisfied(connection, [m for m in matches if m.stands])
            await _change_work(connection, matches)
            await _record(connection, [m for m in matches if m.status is not None], now_s=now_s)
            await leave_rest(connection, {m.outcome.claim.step: m.rest for m in matches})
            await _write_events(connection, matches, now_s=now_s)
            suppressing = [m.outcome.claim for m in matches if m.outcome.decision.suppresses and not m.erased]
            await suppress(connection, [(c.tenant, str(c.channel), c.address) for c in suppressing])
            await _take_in_receipts(connection, [m.outcome for m in matches])
            await decide_ends(connection, ids)

        await retried(self._pool, unit)


async def _unless_satisfied(connection: Connection, matches: Sequence[_Match]) -> list[_Match]:
    """Nothing follows on a later place of a chain that has come to its aim on an earlier one meanwhile."""
    going_on = [m.outcome.claim.notification_id for m in matches if m.outcome.claim.n > 1 and (m.stays or m.follows)]
    aimed = await satisfied(connection, going_on)
    return [
        replace(m, outcome=stopped(m.outcome, as_=(Status.SUPPRESSED, Reason.ARRIVED_ELSEWHERE)))
        if m.outcome.claim.notification_id in aimed
        else m
        for m in matches
    ]


async def _take_in_receipts(connection: Connection, outcomes: Sequence[StepOutcome]) -> None:
    """Says under which ids receipts will come, and takes in those that came before this."""
    reported = [o for o in outcomes if o.window is not None]
    if reported:
        await link(connection, [message for o in reported if (message := handed(o)) is not None])
        await take_in_reported(connection, sorted({o.claim.step for o in reported}))


async def _change_work(connection: Connection, matches: Sequence[_Match]) -> None:
    ended = [m.outcome for m in matches if m.ends]
    staying = [m for m in matches if m.stays]
    again = [m.outcome for m in staying]
    following = [m for m in matches if m.follows]
    looking = [m.outcome.claim for m in matches if m.looks_again]
    if ended:
        await connection.execute(_END, [o.claim.notification_id for o in ended], [o.claim.n for o in ended])
    if again:
        await connection.execute(
            _AGAIN, [o.claim.notification_id for o in again], [o.claim.n for o in again],
            [o.decision.due_at for o in again], [o.decision.failures for o in again], [o.moves_to for o in again],
            ["\n".join(o.tried) or None for o in again], [o.decision.awaiting for o in again],
            [ResultClass.OK if m.on_top else None for m in staying],
        )  # fmt: skip
    if looking:
        await connection.execute(_LOOK_AGAIN, [c.notification_id for c in looking], [c.n for c in looking])
    if following:
        await connection.execute(_OPEN, *_columns([_next_row(m) for m in following]))


def _next_row(match: _Match) -> tuple[Any, ...]:
    claim, row = match.outcome.claim, match.row
    step: PlannedStep = claim.chain[0]
    return (claim.notification_id, step.n, row["tenant"], row["lane"], step.channel, match.outcome.account_of_next,
            step.address, row["locale"], chain_json(claim.chain[1:]), row["expires_at"], row["cohort"],
            row["version"])  # fmt: skip


async def _record(connection: Connection, matches: Sequence[_Match], *, now_s: float) -> None:
    """One row a delivery: where two attempts of one delivery end in one flush, the later match stands."""
    rows = {m.outcome.claim.step: _record_row(m, now_s=now_s) for m in matches}
    if rows:
        await connection.execute(_RECORD, *_columns(list(rows.values())))


def _record_row(match: _Match, *, now_s: float) -> tuple[Any, ...]:
    o, claim = match.outcome, match.outcome.claim
    attempts = max(claim.attempt if o.result is not None else claim.attempt - 1, match.row["attempts"] or 0)
    result = o.result
    address = None if match.erased else claim.address
    return (claim.notification_id, claim.n, claim.tenant, claim.channel, o.provider, claim.account, address,
            match.status, match.reason, result.result if result else None, result.code if result else None, attempts,
            result.provider_id if result else None, _age(o, now_s=now_s), o.window if result else None)  # fmt: skip


async def _write_events(connection: Connection, matches: Sequence[_Match], *, now_s: float) -> None:
    rows = [
        (o.claim.notification_id, e.id, o.claim.n, _age(o, now_s=now_s), e.type, o.cohort, o.epoch,
         msgspec.json.encode(e.detail).decode())
        for m in matches for o in [m.outcome] for e in m.events
    ]  # fmt: skip
    if rows:
        await connection.execute(_EVENTS, *_columns(rows))


def _age(outcome: StepOutcome, *, now_s: float) -> timedelta:
    return timedelta(seconds=max(0.0, now_s - outcome.happened_at_s))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
