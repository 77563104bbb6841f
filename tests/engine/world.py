"""A world for the state machine's test: the real statements, a clock that jumps, providers that answer what they are told,
and a witness who knows what must be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from activities.clock_watch import AROUND
from api.recalls import RecallService
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.errors import HandedOff
from domain.ids import reference, uuid7
from domain.lanes import LEASE, Lane
from domain.partials import AS_A_RULE, Wanted
from domain.results import ResultClass, SendResult
from domain.states import MISSED, SUCCESS, Status
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.clock_steps import ClockRepository
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.edits import Edit, EditRepository
from infra.postgres.engine.expediting import ExpediteRepository
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.recalling import RecallRepository
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.lists.partials import PartialRepository
from tests.engine.support import ADDRESSES, EVERYWHERE, OK, RETRY, TENANT, soon
from tests.engine.witness import Witness, attempt_of

_JUMP = (
    "UPDATE work SET due_at = due_at - $1::interval, expires_at = expires_at - $1::interval, start_by = start_by - "
    "$1::interval, unknown_at = unknown_at - $1::interval, falls_back_at = falls_back_at - $1::interval",
    "UPDATE notification SET send_at = send_at - $1::interval, expires_at = expires_at - $1::interval, "
    "accepted_at = accepted_at - $1::interval",
    "UPDATE cohort SET lease = lease - $1::interval",
    "UPDATE delivery SET receipt_until = receipt_until - $1::interval WHERE receipt_until IS NOT NULL",
)
"""The database's clock cannot be set, so all that it is compared with moves the other way."""
_RESTS = """
SELECT EXISTS (SELECT FROM delivery WHERE notification_id = $1 AND n = $2 AND json_array_length(rest -> 'chain') > 0)
   AND expires_at > now() AND NOT EXISTS (SELECT FROM work WHERE notification_id = $1)
FROM notification WHERE id = $1"""
_RESUMED = "SELECT count(*) FROM event WHERE notification_id = $1 AND type = 'resumed'"
MOST_TURNS = 200
OVERTAKEN: dict[str, Any] = {
    "lane": Lane.MEDIUM, "user": "u-1", "channels": [Channel.WEBHOOK, Channel.EMAIL, Channel.INAPP], "strategy": "fallback",
    "expires_in": timedelta(hours=9), "options": '{"on_unknown": "hold", "fallback_after": "PT60S"}',
}  # fmt: skip
"""Its webhook is reported on, or the e-mail follows after a minute."""


@dataclass
class World(Witness):
    cohorts: list[CohortRow] = field(default_factory=list)
    """As some worker believes that they are: some epochs are over."""
    in_hand: list[Claim] = field(default_factory=list)
    """Being handed over: a provider has them, and has not answered."""
    told: list[StepOutcome] = field(default_factory=list)
    seen: list[Claim] = field(default_factory=list)
    """Overdue ones that somebody has seen, and may write down at any time."""
    given: list[Claim] = field(default_factory=list)
    """What a provider who reports has been given, and may have taken."""
    was_ahead: timedelta | None = None
    """So far the clock was set back; once in a history."""
    recaller: MemoryProvider = field(default_factory=lambda: MemoryProvider(channel=Channel.INAPP, recall=True))

    async def accept(self, **fields: Any) -> None:
        accepted = await self.engine.accepted(1, **fields)
        self.ids += accepted
        self.chains.update(accepted if fields["strategy"] != "all" else ())

    async def group(self, lane: Lane) -> None:
        cohort = await self.engine.cohorts.group(lane)
        if cohort is not None:
            self.cohorts.append(cohort)

    async def plan(self) -> None:
        for lane in Lane:
            await self.group(lane)
        for cohort in self.cohorts:
            await self.engine.plan(cohort)

    async def drive(self) -> None:
        await self.plan()
        for cohort in self.cohorts:
            for channel in EVERYWHERE:
                await self.claim(cohort, channel, limit=10)

    async def claim(self, cohort: CohortRow, channel: Channel, *, limit: int) -> None:
        for claim in await self.engine.claim(cohort, channel, limit=limit):
            if await self._ends_unsent(cohort, claim):
                continue
            await self.may_be_sent(claim)
            self.handed[claim.step] = self.handed.get(claim.step, 0) + 1
            self.in_hand.append(claim)
            self.out_there.setdefault(claim.step, set()).add(claim.attempt)
            self.given += [claim] * (claim.channel is Channel.WEBHOOK)

    async def take_nothing(self, cohort: CohortRow, channel: Channel) -> None:
        """The channel's account is not called, and what needs no call goes on or ends."""
        claimed = await self.engine.claims.claim(
            cohort, account=f"memory-{channel}", limit=10, call_timeout=timedelta(0), uncalled=True
        )
        for claim in claimed.claims:
            if not await self._ends_unsent(cohort, claim, takes_nothing=True):
                assert claim.has_waited, "taken from its channel before its time"
                await self.engine.flush(self.engine.decider(cohort).unserved(claim, takes_nothing=True))

    async def _ends_unsent(self, cohort: CohortRow, claim: Claim, *, takes_nothing: bool = False) -> bool:
        end = self.engine.decider(cohort).unsent(claim, takes_nothing=takes_nothing)
        if isinstance(end, Returned):
            await self.engine.claims.give_back([end])
        elif end is not None:
            await self.engine.flush(end)
        return end is not None

    def _was_not_taken(self, claim: Claim) -> None:
        self.settled(claim)
        self.given = [c for c in self.given if attempt_of(c) != attempt_of(claim)]

    async def report(self, claim: Claim, status: Status) -> None:
        """By our reference, early or late, also of what we believe lost; nobody reports on what was not handed over."""
        one, resumed = claim.notification_id, await self._resumed(claim)
        rests = await self.engine.pool.fetchval(_RESTS, one, claim.n)
        is_news = (
            self.standing(claim.step) is not Status.FAILED
        )  # or it was for good: its time was over, by the clock ahead
        self.learn(claim, status)
        self.reported.add(attempt_of(claim))
        name = reference(one, claim.n, attempt=claim.attempt)
        result = ResultClass.PERMANENT if status is Status.FAILED else None
        await self.engine.receipts.take(claim.account, [Receipt(None, status, result=result, reference=name)])
        if status is Status.FAILED:
            self.accused.add(one)
        if await self._resumed(claim) > resumed:
            assert one not in self.stopped, "it goes on after it was stopped"
            assert self.standing((one, claim.n)) is Status.FAILED, "it goes on, and what was sent may have arrived"
            self.ended.pop(one, None)
        elif rests and is_news and one not in self.stopped and self.standing((one, claim.n)) is Status.FAILED:
            raise AssertionError("it failed, places of its chain are left, and it does not go on")

    async def _resumed(self, claim: Claim) -> int:
        return int(await self.engine.pool.fetchval(_RESUMED, claim.notification_id))

    async def _back(self, claim: Claim, wait: timedelta = timedelta(0)) -> None:
        await self.engine.claims.give_back([Returned(claim.notification_id, claim.n, claim.attempt, wait=wait)])

    async def give_back(self, claim: Claim, wait: timedelta = timedelta(0)) -> None:
        """Not a byte of it left. `wait`: its receiver may have no more so long."""
        if attempt_of(claim) in self.reported:
            return
        self.in_hand.remove(claim)
        self.handed[claim.step] -= 1
        self._was_not_taken(claim)
        await self._back(claim, wait)
        await self._look_for_late()
        if not (await self.engine.end(claim.notification_id))[2]:  # it was called lost, and goes on
            self.ended.pop(claim.notification_id, None)

    async def overtake(self, *, gives_back: bool) -> None:
        """A receipt says that one place of a chain has arrived, while another one is in hand; that comes back unsent, or
        fails."""
        if not self._overtaken():
            await self.accept(**OVERTAKEN)
            await self.drive()
            while self.in_hand:
                await self.answer(self.in_hand[0], OK)
            await self.jump(timedelta(seconds=61))
            for _ in range(2):
                await self.drive()
        for claim in self._overtaken()[:1]:
            await self.report(claim, Status.DELIVERED)
            for other in self._others(claim):
                await (self.give_back(other) if gives_back else self.answer(other, RETRY))

    def _overtaken(self) -> list[Claim]:
        """What a provider has been given of a chain of which another place is in hand by now."""
        return [c for c in self.given if c.notification_id in self.chains and self._others(c)]

    def _others(self, claim: Claim) -> list[Claim]:
        return [c for c in self.in_hand if c.notification_id == claim.notification_id and c.n != claim.n]

    async def answer(self, claim: Claim, result: SendResult) -> None:
        """In time, or long after it was called lost."""
        self.in_hand.remove(claim)
        resumed = await self._resumed(claim)
        if claim.channel is Channel.WEBHOOK:
            result = replace(result, provider_id=None)
        if result.result not in {ResultClass.OK, ResultClass.UNKNOWN}:
            if attempt_of(claim) in self.reported:
                result = SendResult(ResultClass.UNKNOWN, code="answer_lost")
            else:
                self._was_not_taken(claim)
        if result.result is ResultClass.OK:
            self.learn(claim, Status.SENT)
        outcome = self.engine.answered(claim, result)
        self.told.append(outcome)
        await self.engine.flush(outcome)
        await self._look_for_late()
        if await self._resumed(claim) > resumed:  # its failure was reported before its answer came
            self.ended.pop(claim.notification_id, None)
        if result.result is ResultClass.OK:
            self.arrived[claim.step] = self.arrived.get(claim.step, 0) + 1
        if result.result is ResultClass.RECIPIENT:
            self.suppressed.add(claim.channel)

    def still(self, claim: Claim) -> Claim:
        """The same as it is in hand now, when time has passed."""
        return next(c for c in self.in_hand if attempt_of(c) == attempt_of(claim))

    async def repeat(self, outcome: StepOutcome) -> None:
        await self.engine.flush(outcome)

    async def look(self) -> None:
        self.seen += await self.engine.lost(None, limit=5)

    async def call_lost(self, claims: Sequence[Claim]) -> None:
        telling = {attempt_of(c): c for c in claims}.values()
        await self.engine.flush(*[self.engine.decider().lost(claim) for claim in telling])
        await self._look_for_late()

    async def set_back(self, by: timedelta) -> None:
        """The database's clock was ahead by so much, and somebody sets it right: what was written then lies ahead."""
        if self.was_ahead is not None:
            return
        self.was_ahead = by
        await self.jump(-by)
        await self.engine.pool.execute("UPDATE notification SET send_at = send_at - $1::interval", by)
        self.in_hand = [replace(claim, claimed_at=claim.claimed_at + by) for claim in self.in_hand]
        self.seen = [replace(claim, claimed_at=claim.claimed_at + by) for claim in self.seen]
        await ClockRepository(self.engine.pool).set_back(soon(by.total_seconds()), by=by)

    async def _look_for_late(self) -> None:
        """After a step: an answer goes by its claim, and so by the clock as it was."""
        if (by := self.was_ahead) is not None:
            await ClockRepository(self.engine.pool).begun_ahead(soon(by.total_seconds()) + AROUND, by=by)

    async def redrive(self) -> None:
        """The sweep: lapsed cohorts go on in their next epoch, whatever the workers of the old one still do; windows of
        receipts close."""
        await self.engine.receipts.close(limit=10)
        for cohort in await self.engine.cohorts.lapsed(limit=10):
            again = await self.engine.cohorts.next_epoch(cohort)
            if again is not None:
                self.cohorts.append(again)

    async def leave(self, cohort: CohortRow) -> None:
        await self.engine.cohorts.leave(cohort, horizon=timedelta(minutes=1))

    async def cancel(self, one: UUID) -> None:
        await self.engine.control.cancel(TENANT, notification_id=one)
        self.stopped.add(one)

    async def recall(self, one: UUID) -> None:
        service = RecallService(RecallRepository(self.engine.pool), {Channel.INAPP: self.recaller})
        await service.recall(TENANT, notification_id=one)
        self.stopped.add(one)
        if one in self.ended:  # what was taken back counts no more, and another channel's failure may be its end
            status, reason, final = await self.engine.end(one)
            assert final or Status(status) is Status.SENT, "it had ended and goes on"  # after all, and a receipt may come
            self.ended[one] = (Status(status), reason)

    async def partial_ones(self) -> list[UUID]:
        rows = await self.engine.pool.fetch("SELECT id FROM notification WHERE partial ORDER BY id")
        return [row["id"] for row in rows]

    async def retry(self, one: UUID) -> None:
        """Somebody wants the channels that failed tried again, every other time those too that may have arrived."""
        wanted = Wanted(MISSED if self.ids.index(one) % 2 else AS_A_RULE)
        judged = await PartialRepository(self.engine.pool).reopen(
            TENANT, [one], wanted=wanted, key=None, answer=lambda _: b""
        )  # fmt: skip
        assert judged is not None
        if one in judged.again:
            assert self.standing_of(one) & SUCCESS, "nothing of it arrived"
            self.asked_again |= {(one, step.n) for step in judged.again[one]}
            self.ended.pop(one, None)
            self.stopped.discard(one)  # after its end, when there was nothing to stop

    async def expedite(self, one: UUID) -> None:
        await ExpediteRepository(self.engine.pool).expedite(TENANT, notification_id=one)

    async def edit(self, one: UUID) -> None:
        """Now, soon or tomorrow, in another lane: by its id, so that each is edited in its own way."""
        stored = await self.engine.notification(one)
        lane = Lane((stored["lane"] + 1) % len(Lane))
        send_at = (None, None, soon(120), soon(86_400))[(self.ids.index(one) + stored["version"]) % 4]
        edit = Edit(
            ("send_at",), stored["version"], lane, stored["category"], None, None, stored["content"], None,
            stored["options"], send_at, None, timedelta(hours=2),
        )  # fmt: skip
        try:
            await EditRepository(self.engine.pool).write(TENANT, notification_id=one, edit=edit)
        except HandedOff:
            return
        assert one not in self.ended, "edited after it had ended"
        assert not any(t for (other, _), t in self.handed.items() if other == one), "edited after it was handed over"

    async def suppress(self, one: UUID) -> None:
        """The address of e-mails or of webhooks."""
        channel = (Channel.EMAIL, Channel.WEBHOOK)[self.ids.index(one) % 2]
        await self.engine.pool.execute(
            "INSERT INTO suppression (tenant, channel, address, reason, id) VALUES ($1, $2, $3, 'manual', $4) "
            "ON CONFLICT DO NOTHING", TENANT, channel, ADDRESSES[channel], uuid7(),
        )  # fmt: skip
        self.suppressed.add(channel)

    async def forgive(self, _: UUID) -> None:
        await self.engine.pool.execute("DELETE FROM suppression")
        self.suppressed.clear()

    async def jump(self, span: timedelta) -> None:
        """So much time passes in this moment."""
        for statement in _JUMP:
            await self.engine.pool.execute(statement, span)
        self.in_hand = [_earlier(claim, span) for claim in self.in_hand]
        self.seen = [_earlier(claim, span) for claim in self.seen]

    async def wait(self) -> None:
        await self.jump(await self._moment("min"))

    async def to_its_end(self, last: SendResult) -> None:
        """A last worker does the rest; what others still have in their hands is lost, and told when all is over."""
        late = list(self.in_hand)
        self.in_hand.clear()
        await self._until_nothing_is_open(last)
        self.in_hand = late
        while self.in_hand:
            await self.answer(self.in_hand[0], last)
            await self.holds()
        await self._until_nothing_is_open(last)
        await self.engine.end_of_windows()
        await self.holds()
        assert set(self.ended) == set(self.ids), "accepted, and never ended"

    async def _until_nothing_is_open(self, last: SendResult) -> None:
        await self.jump(LEASE)
        for turn in range(MOST_TURNS):
            await self.call_lost(await self.engine.lost(None, limit=100))
            await self.redrive()
            for lane in Lane:
                await self.group(lane)
            for cohort in await self._driven():
                await self.engine.plan(cohort)
                for channel in EVERYWHERE:
                    await self.claim(cohort, channel, limit=100)
                while self.in_hand:
                    await self.answer(self.in_hand[0], last)
                await self.leave(cohort)
            await self.holds()
            if not await self.engine.work() and not await self._driven():
                break
            await self.jump(await self._moment("min" if turn < MOST_TURNS // 2 else "max"))
        else:
            raise AssertionError("it does not come to an end")

    async def _driven(self) -> list[CohortRow]:
        rows = await self.engine.pool.fetch("SELECT id, lane, tenant, epoch FROM cohort")
        return [CohortRow(row["id"], row["epoch"], Lane(row["lane"]), row["tenant"]) for row in rows]

    async def _moment(self, which: str) -> timedelta:
        """Until the next thing is due ("min"), or all that waits ("max")."""
        found: timedelta | None = await self.engine.pool.fetchval(
            f"SELECT {which}(CASE state WHEN 0 THEN due_at ELSE unknown_at END) - now() FROM work"
        )
        return max(found or timedelta(0), timedelta(0)) + timedelta(milliseconds=10)


def _earlier(claim: Claim, span: timedelta) -> Claim:
    falls_back_at = None if claim.falls_back_at is None else claim.falls_back_at - span
    return replace(claim, expires_at=claim.expires_at - span, falls_back_at=falls_back_at)
