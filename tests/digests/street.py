"""A world for the exploration of digests and repeats: the real API and statements, a clock that jumps, a provider that
answers what it is told, and what must be true meanwhile and in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

from activities.handing_over.contents import TemplateContents
from domain.channels import Channel
from domain.lanes import Lane
from domain.rechecks import Verdict
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.cohorts import CohortRow
from tests.digests.conftest import Office
from tests.engine.support import OK, PERMANENT, soon

EMPTY = "; ".join(
    f"DELETE FROM {table}"
    for table in ("work", "cohort", "event", "delivery", "notification", "idempotency", "preference", "digest", "dedupe")
)
_JUMP = (
    "UPDATE work SET due_at = due_at - $1::interval, expires_at = expires_at - $1::interval",
    "UPDATE notification SET send_at = send_at - $1::interval, expires_at = expires_at - $1::interval, "
    "accepted_at = accepted_at - $1::interval",
    "UPDATE digest SET until = until - $1::interval",
)
"""The database's clock cannot be set, so all that it is compared with moves the other way. But windows of repeats do not
end: who repeats something after that wants it twice."""
_SAYS = """
SELECT (data->>'n')::int AS n, expires_at > $2 AS lives FROM notification WHERE id = $1 OR digest = $1"""
_BROKEN = """
SELECT 'two open digests of one key' FROM digest d JOIN notification n ON n.id = d.carrier
GROUP BY n.options->'digest'->>'key' HAVING count(*) > 1
UNION ALL
SELECT 'collected for nobody' FROM notification i LEFT JOIN notification c ON c.id = i.digest
WHERE i.status = 'collected' AND NOT i.final AND (c.id IS NULL OR c.final)
UNION ALL
SELECT 'an open digest that nobody will plan' FROM digest d
WHERE carrier IS NOT NULL AND NOT EXISTS (SELECT FROM work WHERE notification_id = d.carrier AND n = 0)"""
_UNTIL_DUE = "SELECT min(due_at) - now() FROM work"
_UNTIL_LATE = "SELECT min(expires_at) - now() FROM notification WHERE NOT final AND expires_at > now()"
_ENDS = """
SELECT id, (data->>'n')::int AS n, status, final, ARRAY(SELECT status FROM delivery WHERE notification_id = id) AS steps
FROM notification ORDER BY id"""
_OPEN = "SELECT EXISTS (SELECT FROM work)"
_LEFT = """
SELECT notification_id, n, lane, state, attempt, cohort, due_at - now() AS due, expires_at - now() AS lives FROM work"""
CAME = {Status.SENT, Status.UNKNOWN}
MOST_TURNS = 60
WAYS: dict[str, dict[str, Any]] = {
    "a": {"first": "collect"},
    "b": {"first": "at_once"},
    "c": {"first": "collect", "channels": [Channel.EMAIL, Channel.INAPP]},
}
"""Key of a digest -> how what it collects goes out."""


@dataclass
class Street:
    """Where comments are posted; each has a number, and what repeats it has the same one."""

    office: Office
    contents: TemplateContents
    wishes: list[dict[str, Any]]
    """What is posted at first, and again where nothing is left."""
    ids: list[UUID] = field(default_factory=list)
    number: dict[UUID, int] = field(default_factory=dict)
    cohorts: list[CohortRow] = field(default_factory=list)
    in_hand: list[tuple[Claim, list[int]]] = field(default_factory=list)
    """With the numbers that the message says."""
    arrived: defaultdict[int, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    """Number -> carriers of messages that were taken with it, or may have been."""
    taken: set[UUID] = field(default_factory=set)
    """Carriers of which a message was taken."""
    withdrawn: set[UUID] = field(default_factory=set)
    """Their cancellation was answered with `cancelled`."""
    wanted_twice: set[int] = field(default_factory=set)
    """Somebody had them tried anew while another one of the same number was on its way, or there."""

    async def post(self, n: int, **changes: Any) -> None:
        one = await self.office.posted(n, dedupe={"window": "P1D", "key": str(n)}, **changes)
        self.ids.append(one)
        self.number[one] = n

    async def accept(self, *, key: str, window: int, spare: int | None, on_unknown: str) -> None:
        """One with a number of its own; its time runs out so many seconds after its own window (None: much later)."""
        life = {} if spare is None else {"expires_at": soon(window + spare).isoformat()}
        first, channels = WAYS[key]["first"], WAYS[key].get("channels", [Channel.EMAIL])
        digest = {"key": key, "window": window, "first": first}
        await self.post(len(self.ids), digest=digest, channels=channels, on_unknown=on_unknown, **life)

    async def repeat(self, one: UUID) -> None:
        """The same again, by itself."""
        await self.post(self.number[one], digest={"key": "again", "window": 60}, on_unknown="hold")

    async def cancel(self, one: UUID) -> None:
        if (await self.office.call(one, "cancel"))["result"] == "cancelled":
            self.withdrawn.add(one)

    async def expedite(self, one: UUID) -> None:
        await self.office.call(one, "expedite")

    async def edit(self, one: UUID, patch: dict[str, Any]) -> None:
        answer = await self.office.api.http.patch(f"/v1/notifications/{one}", json=patch)
        assert answer.status_code in (200, 409), answer.text

    async def rewrite(self, one: UUID) -> None:
        await self.edit(one, {"data": {"n": self.number[one]}})

    async def urge(self, one: UUID) -> None:
        await self.edit(one, {"priority": "high"})

    async def prolong(self, one: UUID) -> None:
        await self.edit(one, {"expires_in": "PT20H"})

    async def retry(self, one: UUID) -> None:
        n = self.number[one]
        same = [i for i in self.ids if self.number[i] == n and i != one]
        others = [(await self.office.read(i)) for i in same]
        answer = await self.office.api.post({"id": str(one)}, path="/v1/notifications/retry")
        if not answer.json()["retried"]:
            return
        made: UUID = await self.office.pool.fetchval("SELECT id FROM notification WHERE origin = $1", one)
        self.ids.append(made)
        self.number[made] = n
        mine = await self.office.read(one)
        if mine["status"] == "unknown" or any(not o["final"] or o["status"] in CAME for o in others):
            self.wanted_twice.add(n)

    async def quiet(self) -> None:
        await self.office.quiet()

    async def loud(self) -> None:
        await self.office.pool.execute("DELETE FROM preference")

    async def jump(self, span: timedelta, *, meanwhile: SendResult = OK) -> None:
        """Nothing is in hand by then, and cohorts have ended: a lane has so many and no more."""
        await self.answer_all(meanwhile)
        await self.office.pool.execute("UPDATE work SET cohort = NULL; DELETE FROM cohort")
        self.cohorts.clear()
        for statement in _JUMP:
            await self.office.pool.execute(statement, span)

    async def wait(self, *, meanwhile: SendResult = OK) -> None:
        """Until something is due."""
        await self._until(_UNTIL_DUE, meanwhile)

    async def lapse(self, *, meanwhile: SendResult) -> None:
        """What is in hand comes to nothing, or is lost, and the time of one runs out before it is tried again."""
        await self.something_in_hand()
        await self._until(_UNTIL_LATE, meanwhile)
        await self.something_in_hand()

    async def _until(self, next_moment: str, meanwhile: SendResult) -> None:
        await self.answer_all(meanwhile)
        span: timedelta | None = await self.office.pool.fetchval(next_moment)
        if span is not None:
            await self.jump(max(span, timedelta(0)) + timedelta(milliseconds=10))

    async def something_in_hand(self) -> None:
        """What is due, or will be next, is being handed over; where nothing is open, the day's comments come once more."""
        if not self.in_hand:
            await self.drive()
        if not self.in_hand:
            await self.wait()
            await self.drive()
        if not self.in_hand:
            await self.loud()
            for wish in self.wishes:
                await self.accept(**wish)
            await self.wait()
            await self.drive()

    async def plan(self) -> None:
        for lane in Lane:
            while (cohort := await self.office.engine.cohorts.group(lane)) is not None:
                self.cohorts.append(cohort)
        for cohort in self.cohorts:
            await self.office.engine.plan(cohort)

    async def drive(self) -> None:
        """What is due is planned, claimed and rendered."""
        await self.plan()
        engine = self.office.engine
        for cohort, channel in product(self.cohorts, (Channel.EMAIL, Channel.INAPP)):
            for claim in await engine.claim(cohort, channel):
                if claim.verdict is Verdict.STALE:
                    raise AssertionError("a claim of what was edited: nothing here edits what is planned meanwhile")
                if claim.ends_unsent:
                    await engine.flush(engine.decider(cohort).stopped(claim))
                else:
                    await self._render(claim)

    async def _render(self, claim: Claim) -> None:
        content = await self.contents.content(claim)
        count, _, numbers = content.text.partition(":")
        said = [int(n) for n in numbers.split()]
        rows = await self.office.pool.fetch(_SAYS, claim.notification_id, claim.claimed_at)
        assert int(count) == len(said)
        assert sorted(said) == sorted(row["n"] for row in rows if row["lives"]), "what has expired, or is not in it"
        self.in_hand.append((claim, said))

    async def answer(self, place: int, result: SendResult) -> None:
        claim, said = self.in_hand.pop(place % len(self.in_hand))
        if result.result in {ResultClass.OK, ResultClass.UNKNOWN}:
            for n in said:
                self.arrived[n].add(claim.notification_id)
                assert len(self.arrived[n]) == 1 or n in self.wanted_twice, f"{n} is in two messages"
        if result.result is ResultClass.OK:
            self.taken.add(claim.notification_id)
        await self.office.engine.answer([claim], result)

    async def withdraw(self, place: int) -> None:
        for one in await self._handed_over(place):
            await self.cancel(one)

    async def answer_and(self, place: int, result: SendResult, *, then: Sequence[str]) -> None:
        """And somebody does something about it at once."""
        for one in await self._handed_over(place):
            await self.answer(place, result)
            for reaction in then:
                await getattr(self, reaction)(one)

    async def refuse(self, place: int, *, then: Sequence[str]) -> None:
        """On each of its channels."""
        for one in await self._handed_over(place):
            for claim, _ in [held for held in self.in_hand if held[0].notification_id == one]:
                await self.answer([c for c, _ in self.in_hand].index(claim), PERMANENT)
            for reaction in then:
                await getattr(self, reaction)(one)

    async def _handed_over(self, place: int) -> list[UUID]:
        """One whose message is in hand; none where whatever is open waits for longer."""
        await self.something_in_hand()
        return [self.in_hand[place % len(self.in_hand)][0].notification_id] if self.in_hand else []

    async def answer_all(self, result: SendResult) -> None:
        while self.in_hand:
            await self.answer(0, result)

    async def holds(self) -> None:
        broken = await self.office.pool.fetchval(_BROKEN)
        assert broken is None, broken

    async def to_its_end(self, last: SendResult) -> None:
        """Each at its time, so that others lapse between two attempts; and then, if it takes long, in longer steps."""
        await self.loud()
        for turn in range(MOST_TURNS):
            early = turn < MOST_TURNS // 2
            await self.answer_all(last if early else OK)
            if not await self.office.pool.fetchval(_OPEN):
                return
            await (self.wait() if early else self.jump(timedelta(minutes=20)))
            await self.drive()
            await self.holds()
        left = await self.office.pool.fetch(_LEFT)
        raise AssertionError(f"it does not come to an end: {[tuple(row) for row in left]}")

    async def is_the_truth(self) -> None:
        rows = await self.office.pool.fetch(_ENDS)
        assert all(row["final"] for row in rows), "it has not ended"
        stopped = {row["id"] for row in rows if "cancelled" in {row["status"], *row["steps"]} and row["status"] not in CAME}
        assert self.withdrawn <= stopped, "cancelled, as was answered, and not in the end"
        told = Counter((row["n"], row["status"]) for row in rows)
        for n in {row["n"] for row in rows} - self.wanted_twice:
            expected = (len(self.arrived[n] & self.taken), len(self.arrived[n] - self.taken))
            assert (told[n, "sent"], told[n, "unknown"]) == expected, f"{n} ended otherwise than it is told"
