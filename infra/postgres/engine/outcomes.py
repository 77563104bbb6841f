"""The flush: what happened to many steps, recorded in one transaction.

An outcome is matched by (notification, n, attempt) and not by epoch: what really happened is never fenced away. A late
outcome of an attempt that was given up as unknown still corrects the record, and a success takes back a resend that has
not begun. What each makes of its step is decided by `domain.recording`, under the notifications' locks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from domain.lost import NOTHING_LOST, Lost
from domain.planning import PlannedStep
from domain.recording import KnownStep, Recording, gives_way, record
from domain.states import SUCCESS, Reason, Status
from domain.work_row import ON_TOP, Fate, WorkState
from infra.postgres.columns import columns
from infra.postgres.engine.chains import ResumePoint, StepKey, leave_rest, satisfied
from infra.postgres.engine.ends import decide_ends
from infra.postgres.engine.linking import handed, link
from infra.postgres.engine.locks import Connection, Held, HeldLately, Locked, lock_and_look, over_free
from infra.postgres.engine.lost_attempts import keep_lost, lost_of, still_unknown
from infra.postgres.engine.never_left import NotBegun, not_made, open_again
from infra.postgres.engine.plans import chain_json
from infra.postgres.engine.receipts import take_in_reported
from infra.postgres.engine.step_outcome import StepOutcome, without_resend
from infra.postgres.engine.suppressing import suppress
from infra.postgres.engine.timeline import Entry, TimelineEvent, event_columns, insert_events

_MATCH = """
SELECT w.state, w.attempt, w.tenant, w.lane, w.expires_at, w.cohort, w.version, w.locale, w.awaiting,
       w.receipt, d.status, d.reason, d.attempts, d.lost
FROM unnest($1::uuid[], $2::smallint[]) WITH ORDINALITY o(id, n, place)
LEFT JOIN LATERAL (SELECT * FROM work WHERE notification_id = o.id AND n = o.n FOR UPDATE) w ON true
LEFT JOIN LATERAL (SELECT status, reason, attempts, lost FROM delivery WHERE notification_id = o.id AND n = o.n
                   OFFSET 0) d ON true
ORDER BY o.place"""

_AGAIN = """
UPDATE work w SET state = 0, due_at = a.due_at, failures = a.failures, start_by = NULL, unknown_at = NULL,
       account = coalesce(a.account, w.account), tried = string_to_array(a.tried, E'\\n'), awaiting = a.awaiting,
       receipt = a.receipt, falls_back_at = a.falls_back_at
FROM (SELECT r.tid, o.*
      FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::smallint[], $5::text[], $6::text[], $7::bool[],
                  $8::text[], $9::timestamptz[])
           o(id, n, due_at, failures, account, tried, awaiting, receipt, falls_back_at)
      JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = o.id AND n = o.n OFFSET 0) r ON true) a
WHERE w.ctid = a.tid"""

_LOOK_AGAIN = f"""
UPDATE work SET state = 0, due_at = now(), start_by = NULL, unknown_at = NULL, awaiting = true,
       receipt = coalesce(nullif(receipt, '{ON_TOP}'), 'delivered')
WHERE ctid = ANY (ARRAY(
    SELECT w.tid FROM unnest($1::uuid[], $2::smallint[]) o(id, n)
    JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = o.id AND n = o.n OFFSET 0) w ON true))"""

_AWAIT = """
UPDATE work w SET state = 0, start_by = NULL, unknown_at = NULL, awaiting = true, due_at = least(b.until, w.expires_at),
       receipt = b.receipt
FROM (SELECT r.tid, x.receipt, coalesce(d.sent_at, now()) + x.within AS until
      FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::interval[]) x(id, n, receipt, within)
      JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = x.id AND n = x.n OFFSET 0) r ON true
      LEFT JOIN LATERAL (SELECT sent_at FROM delivery WHERE notification_id = x.id AND n = x.n OFFSET 0) d ON true) b
WHERE w.ctid = b.tid"""
"""As long as the receipt of the earlier attempt would have been waited for (and as `giving_back` does)."""

_OPEN = """
INSERT INTO work (notification_id, n, tenant, lane, channel, account, address, locale, chain, due_at, expires_at, cohort,
                  version, falls_back_at)
SELECT id, n, tenant, lane, channel, account, address, locale, chain, now(), expires_at, cohort, version,
       now() + fallback_after
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::json[], $10::timestamptz[], $11::uuid[], $12::smallint[], $13::interval[])
     s(id, n, tenant, lane, channel, account, address, locale, chain, expires_at, cohort, version, fallback_after)
ON CONFLICT DO NOTHING"""

_WRITE = f"""
WITH gone AS (
    DELETE FROM work WHERE ctid = ANY (ARRAY(
        SELECT w.tid FROM unnest($1::uuid[], $2::smallint[]) o(id, n)
        JOIN LATERAL (SELECT ctid AS tid FROM work WHERE notification_id = o.id AND n = o.n OFFSET 0) w ON true))
),
told AS ({insert_events(first=3)})
INSERT INTO delivery AS d (notification_id, n, tenant, channel, provider, account, address, status, reason, class, code,
                           attempts, provider_id, sent_at, delivered_at, updated_at, receipt_until)
SELECT id, n, tenant, channel, provider, account, address, status, reason, class, code, attempts, provider_id,
       CASE WHEN status IN ('sent', 'delivered') THEN now() - age END,
       CASE status WHEN 'delivered' THEN now() - age END, now(), CASE status WHEN 'sent' THEN now() - age + window_ END
FROM unnest($11::uuid[], $12::smallint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
            $19::text[], $20::text[], $21::text[], $22::smallint[], $23::text[], $24::interval[], $25::interval[])
     o(id, n, tenant, channel, provider, account, address, status, reason, class, code, attempts, provider_id, age,
       window_)
ON CONFLICT (notification_id, n) DO UPDATE SET
    provider = EXCLUDED.provider, account = EXCLUDED.account, address = EXCLUDED.address, status = EXCLUDED.status,
    reason = EXCLUDED.reason, class = coalesce(EXCLUDED.class, d.class), code = coalesce(EXCLUDED.code, d.code),
    attempts = EXCLUDED.attempts,
    provider_id = coalesce(EXCLUDED.provider_id, d.provider_id), sent_at = coalesce(d.sent_at, EXCLUDED.sent_at),
    delivered_at = coalesce(d.delivered_at, EXCLUDED.delivered_at), updated_at = now(),
    receipt_until = CASE EXCLUDED.status WHEN 'sent' THEN greatest(d.receipt_until, EXCLUDED.receipt_until) END"""
"""Steps that have ended leave, what came of each is recorded, and the timeline tells it: none of it reads what another part
writes, and each statement of its own would be another turn of two processes."""
_RECORD_COLUMNS = 15


@dataclass(frozen=True, slots=True)
class _Match:
    """An outcome beside its step, whose locks are held, and what it makes of that."""

    outcome: StepOutcome
    row: asyncpg.Record
    known: KnownStep
    recording: Recording
    erased: bool
    """Its recipient was erased meanwhile: what happened is recorded without the address."""

    @property
    def news_of_lost(self) -> bool:
        """Other attempts of the step may have arrived than was known."""
        return self.known.lost != lost_of(self.row["lost"])

    @property
    def never_left(self) -> bool:
        """It was called lost, and was not: it ended in somebody's hands without a call."""
        return self.outcome.result is None and self.news_of_lost and not self.known.lost

    @property
    def entries(self) -> Iterator[TimelineEvent]:
        """What is told of it."""
        recording = self.recording
        for event in self.outcome.events:
            if recording.tells(event.type):
                yield self._as_recorded(event)
        if recording.because is not None:
            claim = self.outcome.claim
            yield still_unknown(claim.channel, self.known.lost, because=recording.because, falls_back=recording.opens_next)

    def _as_recorded(self, event: TimelineEvent) -> TimelineEvent:
        if self.recording.fate is Fate.WAIT:
            return without_resend(event)
        return event if self.recording.because is None else _corrected(event)

    @property
    def rest(self) -> ResumePoint | None:
        """What is left of it where it ends here, and may turn out to have failed, or not to have begun."""
        if self.erased or not (self.recording.may_resume or self._may_not_have_begun):
            return None
        claim, failures = self.outcome.claim, self.outcome.decision.failures
        chain = chain_json(claim.chain) or "[]"
        return ResumePoint(chain, self.row["attempt"], self.row["locale"], failures, claim.tried)

    @property
    def _may_not_have_begun(self) -> bool:
        """It ends here only because nobody says what became of it, and somebody may yet say that nothing did."""
        if not self.outcome.assumed:
            return False
        recording = self.recording
        return recording.fate is Fate.END and recording.status is Status.UNKNOWN and not recording.opens_next


class OutcomeRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._lately = HeldLately()

    async def flush(self, outcomes: Sequence[StepOutcome], *, now_s: float) -> None:
        """Record all, in one transaction; safe to repeat after a lost answer. `now_s` is time.monotonic(). Raises Held:
        those of the notifications named in it are not recorded, all others are."""
        given = sorted(outcomes, key=lambda o: (o.claim.notification_id, o.claim.n, o.claim.attempt))
        of_all = sorted({o.claim.notification_id for o in given})

        async def unit(connection: Connection, ids: Sequence[UUID]) -> None:
            outcomes = given
            if ids is not of_all:
                free = set(ids)
                outcomes = [o for o in given if o.claim.notification_id in free]
            locked = await lock_and_look(connection, ids)
            rows = await connection.fetch(
                _MATCH, [o.claim.notification_id for o in outcomes], [o.claim.n for o in outcomes]
            )
            matches = await _unless_satisfied(connection, _matched(outcomes, rows, locked))
            await _change_work(connection, matches)
            await _write(connection, matches, now_s=now_s)
            await leave_rest(connection, {m.outcome.claim.step: m.rest for m in matches})
            await keep_lost(connection, {m.outcome.claim.step: m.known.lost for m in matches if m.news_of_lost})
            never_left = [NotBegun(*m.outcome.claim.step, m.outcome.claim.attempt) for m in matches if m.never_left]
            await open_again(connection, never_left)
            await not_made(connection, list({claim[:2]: claim for claim in never_left}.values()))
            suppressing = [m.outcome.claim for m in matches if m.outcome.decision.suppresses and not m.erased]
            await suppress(connection, [(c.tenant, str(c.channel), c.address) for c in suppressing])
            await _take_in_receipts(connection, [m.outcome for m in matches])
            await decide_ends(connection, ids)

        _, held = await over_free(self._pool, of_all, unit, lately=self._lately)
        if held:
            raise Held(held)


def _matched(outcomes: Sequence[StepOutcome], rows: Sequence[asyncpg.Record], locked: Locked) -> list[_Match]:
    """Without those that give way to what was recorded meanwhile."""
    counting = [
        (outcome.stopped() if outcome.claim.notification_id in locked.cancelled else outcome, row)
        for outcome, row in zip(outcomes, rows, strict=True)
        if not (outcome.assumed and gives_way(_known(row), outcome.of_attempt))
    ]  # fmt: skip
    lost: dict[StepKey, Lost] = {}
    for outcome, row in counting:  # of one step in the order of its attempts
        step = outcome.claim.step
        lost[step] = outcome.leaves(lost[step] if step in lost else lost_of(row["lost"]))
    matches, brought = [], dict[StepKey, Status]()
    for outcome, row in counting:
        step = outcome.claim.step
        known = _known(row, lost=lost[step], attempt=outcome.claim.attempt)
        if step in brought:
            known = replace(known, status=brought[step])
        recording = record(known, outcome.of_attempt)
        if recording.status in SUCCESS:  # the next one, in this flush, is no news over that
            brought[step] = recording.status
        matches.append(_Match(outcome, row, known, recording, outcome.claim.notification_id in locked.erased))
    return matches


def _known(row: asyncpg.Record, *, lost: Lost = NOTHING_LOST, attempt: int | None = None) -> KnownStep:
    state, status = row["state"], row["status"]
    return KnownStep(
        None if state is None else WorkState(state), row["attempt"], bool(row["awaiting"]), row["receipt"],
        None if status is None else Status(status), row["reason"], row["attempts"] or 0, lost,
        settled=row["lost"] is not None and not lost, was_lost=any(one.attempt == attempt for one in lost_of(row["lost"])),
    )  # fmt: skip


async def _unless_satisfied(connection: Connection, matches: Sequence[_Match]) -> Sequence[_Match]:
    """Once one place of the chain has reached its aim, no other one goes on. Which of them was tried before the others, `n`
    does not say: a chain by preference has another order."""
    going_on = [m.outcome.claim.notification_id for m in matches if m.outcome.claim.chained and m.recording.goes_on]
    aimed = await satisfied(connection, going_on)
    if not aimed:
        return matches
    return [_stopped(m) if m.outcome.claim.notification_id in aimed else m for m in matches]


def _stopped(match: _Match) -> _Match:
    outcome = match.outcome.stopped(end=(Status.SUPPRESSED, Reason.ARRIVED_ELSEWHERE))
    return replace(match, outcome=outcome, recording=record(match.known, outcome.of_attempt))


async def _take_in_receipts(connection: Connection, outcomes: Sequence[StepOutcome]) -> None:
    """Says under which ids receipts will come, and takes in those that came before this."""
    reported = [o for o in outcomes if o.window is not None]
    if reported:
        await link(connection, [message for o in reported if (message := handed(o)) is not None])
        await take_in_reported(connection, sorted({o.claim.step for o in reported}))


async def _change_work(connection: Connection, matches: Sequence[_Match]) -> None:
    """Of the steps that go on."""
    staying = [m for m in matches if m.recording.fate is Fate.AGAIN]
    again = [m.outcome for m in staying]
    awaiting = [m for m in matches if m.recording.fate is Fate.WAIT]
    following = [m for m in matches if m.recording.opens_next]
    looking = [m.outcome.claim for m in matches if m.recording.fate is Fate.LOOK]
    if again:
        await connection.execute(
            _AGAIN, [o.claim.notification_id for o in again], [o.claim.n for o in again],
            [o.decision.due_at for o in again], [o.decision.failures for o in again], [o.moves_to for o in again],
            ["\n".join(o.tried) or None for o in again], [o.decision.awaiting for o in again],
            [ON_TOP if m.recording.on_top else None for m in staying], [o.falls_back_at for o in again],
        )  # fmt: skip
    if looking:
        await connection.execute(_LOOK_AGAIN, [c.notification_id for c in looking], [c.n for c in looking])
    if awaiting:
        await connection.execute(_AWAIT, *columns([_awaited_row(m) for m in awaiting]))
    if following:
        await connection.execute(_OPEN, *columns([_next_row(m) for m in following]))


def _awaited_row(match: _Match) -> tuple[Any, ...]:
    """A message that was delivered is waited for being read, by its chain alone."""
    o, delivered = match.outcome, match.known.status is Status.DELIVERED
    of_aim = o.awaits.within if o.awaits else None
    within = of_aim if delivered and of_aim else o.receipt_within or of_aim
    return (*o.claim.step, Status.DELIVERED if delivered else None, within)


def _next_row(match: _Match) -> tuple[Any, ...]:
    claim, row = match.outcome.claim, match.row
    step: PlannedStep = claim.chain[0]
    fallback_after = claim.awaits.within if claim.awaits and claim.chain[1:] else None
    return (claim.notification_id, step.n, row["tenant"], row["lane"], step.channel, match.outcome.account_of_next,
            step.address, row["locale"], chain_json(claim.chain[1:]), row["expires_at"], row["cohort"],
            row["version"], fallback_after)  # fmt: skip


async def _write(connection: Connection, matches: Sequence[_Match], *, now_s: float) -> None:
    """One record a delivery: where two attempts of one delivery end in one flush, the later match stands."""
    ended = [m.outcome.claim for m in matches if m.recording.fate is Fate.END]
    records = {m.outcome.claim.step: _record_row(m, now_s=now_s) for m in matches if m.recording.status is not None}
    entries = [
        Entry(*o.claim.step, e, _age(o, now_s=now_s), o.cohort)
        for m in matches for o in [m.outcome] for e in m.entries
    ]  # fmt: skip
    if ended or records or entries:
        await connection.execute(
            _WRITE, [c.notification_id for c in ended], [c.n for c in ended], *event_columns(entries),
            *columns(list(records.values()), of=_RECORD_COLUMNS),
        )  # fmt: skip


def _record_row(match: _Match, *, now_s: float) -> tuple[Any, ...]:
    o, claim, recording, result = match.outcome, match.outcome.claim, match.recording, match.outcome.result
    attempts = max(claim.attempt if result is not None else claim.attempt - 1, match.row["attempts"] or 0)
    address = None if match.erased else claim.address
    return (claim.notification_id, claim.n, claim.tenant, claim.channel, o.provider, claim.account, address,
            recording.status, recording.reason, result.result if result else None, result.code if result else None,
            attempts, result.provider_id if result else None, _age(o, now_s=now_s),
            o.window if result else None)  # fmt: skip


def _corrected(event: TimelineEvent) -> TimelineEvent:
    """Whatever it says of the step's state: that is unknown."""
    return replace(event, detail=event.detail | {"status": Status.UNKNOWN}) if "status" in event.detail else event


def _age(outcome: StepOutcome, *, now_s: float) -> timedelta:
    return timedelta(seconds=max(0.0, now_s - outcome.happened_at_s))
