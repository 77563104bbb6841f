"""Whoever watches all of the state machine's test: what has happened, by all that was ever said, and what must be true."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from domain.channels import Channel
from domain.receipts import better, stands
from domain.results import ResultClass
from domain.states import SUCCESS, UNDELIVERED, Reason, Status, rank
from domain.work_row import is_legal
from infra.postgres.engine.claimed import Claim
from tests.engine.support import Engine

Step = tuple[UUID, int]

_ENDS = "SELECT id, status, reason, final FROM notification"
_REPORTABLE = "SELECT DISTINCT notification_id FROM delivery WHERE receipt_until IS NOT NULL"
_BEYOND = """
SELECT w.notification_id, w.n, w.due_at, w.falls_back_at FROM work w JOIN notification m ON m.id = w.notification_id
WHERE w.falls_back_at > greatest(now(), m.send_at) + (m.options ->> 'fallback_after')::interval + interval '5 seconds'
   OR (w.state = 0 AND NOT w.awaiting AND w.due_at > w.falls_back_at AND w.falls_back_at > now())"""
"""What stays longer with a channel than its chain allows, or is put off beyond that."""
_OPEN = """
SELECT notification_id, n, state, awaiting, receipt, cohort, EXISTS (SELECT FROM cohort c WHERE c.id = w.cohort) AS driven
FROM work w"""
_NOT_ARRIVED = """
SELECT notification_id, n, status FROM delivery
WHERE status IN ('failed', 'expired', 'cancelled', 'suppressed') AND reason <> 'recalled_by_request'"""
_ATTEMPTS = """
SELECT detail->>'class' AS class, (detail->>'attempt')::int AS attempt FROM event
WHERE notification_id = $1 AND n = $2 AND type = 'attempt'"""
"""One attempt may be told twice: as lost, and by what came after all."""
_REPEATABLE = {ResultClass.RETRY, ResultClass.RATE, ResultClass.CONFIG, ResultClass.TOKEN, ResultClass.UNKNOWN}


@dataclass
class Witness:
    """Knows what the world did and what was said of it; asks the database what it believes."""

    engine: Engine
    ids: list[UUID] = field(default_factory=list)
    chains: set[UUID] = field(default_factory=set)
    """Those of them whose channels are tried one after another."""
    handed: dict[Step, int] = field(default_factory=dict)
    """How often a provider was given this step."""
    arrived: dict[Step, int] = field(default_factory=dict)
    """How often a provider took it, and we know."""
    known: dict[Step, dict[int, Status]] = field(default_factory=dict)
    """By attempt, what its answer and its receipts say."""
    out_there: dict[Step, set[int]] = field(default_factory=dict)
    """Attempts that a provider was given, and of which nothing says what became of them."""
    reported: set[tuple[UUID, int, int]] = field(default_factory=set)
    """Attempts that a receipt has come for: they were taken, whatever we hear."""
    accused: set[UUID] = field(default_factory=set)
    """A receipt has said of them that something failed."""
    stopped: set[UUID] = field(default_factory=set)
    ended: dict[UUID, tuple[Status, str | None]] = field(default_factory=dict)
    suppressed: set[Channel] = field(default_factory=set)
    asked_again: set[Step] = field(default_factory=set)
    """They had failed beside one that arrived, and somebody wanted them tried again."""

    async def may_be_sent(self, claim: Claim) -> None:
        """What nobody may live to see."""
        step = claim.step
        assert self.standing(step) not in SUCCESS, "handed over again although it was known to have arrived"
        assert claim.notification_id not in self.stopped, "handed over after it was stopped"
        assert claim.notification_id not in self.ended, "handed over after it had ended"
        assert claim.channel not in self.suppressed, "handed over to a suppressed address"
        assert claim.expires_at > claim.claimed_at, "handed over after its time"
        assert not self.arrived_elsewhere(claim), "handed over although another place of its chain had arrived"
        if self.handed.get(step) and step not in self.asked_again:
            events = await self.engine.pool.fetch(_ATTEMPTS, *step)
            assert events, "handed over twice, and nothing was said of the first time"
            last = max(event["attempt"] for event in events)
            said = [e["class"] for e in events if e["attempt"] == last]
            assert {ResultClass(name) for name in said} & _REPEATABLE, "handed over again for no reason"

    def arrived_elsewhere(self, claim: Claim) -> bool:
        """Nothing of what is asked for here waits for its being read."""
        if claim.notification_id not in self.chains:
            return False
        others = [n for n in range(1, len(Channel) + 1) if n != claim.n]
        return Status.DELIVERED in {self.standing((claim.notification_id, n)) for n in others}

    def standing(self, step: Step) -> Status | None:
        """What is known of it, by all that was ever said."""
        return stands(self.known.get(step, {}).values())

    def standing_of(self, one: UUID) -> set[Status]:
        """The same of all its steps."""
        found = {self.standing(step) for step in self.known if step[0] == one}
        return {status for status in found if status is not None}

    def learn(self, claim: Claim, status: Status) -> None:
        self.settled(claim)
        messages = self.known.setdefault((claim.notification_id, claim.n), {})
        messages[claim.attempt] = better(messages.get(claim.attempt), status)

    def settled(self, claim: Claim) -> None:
        """It is known of this attempt whether it arrived."""
        self.out_there[claim.step].discard(claim.attempt)

    async def holds(self) -> None:
        """What must be true at every moment."""
        open_steps = await self.engine.pool.fetch(_OPEN)
        opened = {row["notification_id"] for row in open_steps}
        reportable = {row["notification_id"] for row in await self.engine.pool.fetch(_REPORTABLE)}
        for row in open_steps:
            marks = {name: row[name] for name in ("state", "awaiting", "receipt")}
            assert is_legal(row["n"], **marks), f"no row may say this: {marks}"
        assert all(row["cohort"] is None or row["driven"] for row in open_steps), "a step whose cohort has gone"
        assert await self.engine.pool.fetch(_BEYOND) == [], "it stays longer with a channel than its chain allows"
        for row in await self.engine.pool.fetch(_ENDS):
            one, status, reason = row["id"], Status(row["status"]), row["reason"]
            if one in self.ended:
                taken = status is Status.SENT and one in reportable  # after all, and a receipt may come
                assert row["final"] or taken, "it had ended and goes on"
                if one not in self.accused:
                    _better(self.ended[one], (status, reason))
            if row["final"]:
                assert one not in opened, "it has ended and a step is open"
                assert (status in UNDELIVERED) == (reason is not None)
                self.ended[one] = (status, reason)
            else:
                assert one in opened | reportable, "it has not ended and nobody will look at it again"
        for row in await self.engine.pool.fetch(_NOT_ARRIVED):
            assert not self.out_there.get((row["notification_id"], row["n"])), f"{row['status']}, and it may be there"

    async def is_the_truth(self) -> None:
        """What a user would check: what arrived is called sent unless taken back, and nothing came twice in silence."""
        for one in self.ids:
            status, reason = self.ended[one]
            records = await self.engine.pool.fetch("SELECT n, status, reason FROM delivery WHERE notification_id = $1", one)
            came = {n for (other, n) in self.known if other == one and self.standing((other, n)) in SUCCESS}
            back = {row["n"] for row in records if row["reason"] == Reason.RECALLED_BY_REQUEST}
            assert {row["n"] for row in records if row["status"] in SUCCESS} == came - back
            assert (status in SUCCESS) is bool(came - back), (status, reason, came, back)
            assert not any(row["status"] == Status.RETRYING for row in records)
            unsure = {row["n"] for row in records if row["status"] == Status.UNKNOWN}
            assert all(self.out_there.get((one, n)) for n in unsure), "unknown, and nothing of it is out there"
            events = await self.engine.pool.fetch("SELECT n, type FROM event WHERE notification_id = $1", one)
            unknown = {row["n"] for row in events if row["type"] == "unknown"}
            twice = {n for n in came if self.arrived.get((one, n), 0) > 1}
            asked = {n for other, n in self.asked_again if other == one}
            assert twice <= unknown | asked, "it came twice and nobody says so"


def attempt_of(claim: Claim) -> tuple[UUID, int, int]:
    return claim.notification_id, claim.n, claim.attempt


def _better(known: tuple[Status, str | None], news: tuple[Status, str | None]) -> None:
    """An end gives way to better evidence, or to a recall that took it back."""
    if known == news or news[1] == Reason.RECALLED_BY_REQUEST:
        return
    corrected = known[0] is Status.UNKNOWN or rank(news[0]) >= rank(known[0])
    assert corrected, f"{known} became {news}"
