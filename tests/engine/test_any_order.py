"""Whatever happens in whatever order: claims, answers on time and late, losses, re-drives, cancellations, repeated flushes.

A few hundred random histories on the real statements. What must hold in the end is what a user would check: everything has
ended, what arrived is called sent, and nothing arrived twice unless the timeline had called it unknown in between.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from domain.channels import Channel
from domain.rechecks import Verdict
from domain.results import ResultClass, SendResult
from domain.states import UNDELIVERED, Status
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.step_outcome import StepOutcome
from tests.engine.support import LOST, OK, PERMANENT, RETRY, TENANT, Engine

RATE = SendResult(ResultClass.RATE, code="rate")
ANSWERS = (OK, RETRY, RATE, PERMANENT, LOST)


@dataclass
class History:
    """One cohort, some killed or slow workers, and what they know."""

    engine: Engine
    cohort: CohortRow
    ids: list[UUID]
    dice: random.Random
    in_hand: list[Claim] = field(default_factory=list)
    told: list[StepOutcome] = field(default_factory=list)
    seen: list[Claim] = field(default_factory=list)
    """Claims that were overdue when somebody looked."""
    arrived: dict[UUID, list[str]] = field(default_factory=dict)
    """Notification -> the channels on which a provider really took it, once for each time."""
    known: set[tuple[UUID, str]] = field(default_factory=set)
    """Deliveries of which it is recorded that they arrived."""
    stopped: set[UUID] = field(default_factory=set)

    async def claim(self) -> None:
        channel = self.dice.choice((Channel.EMAIL, Channel.INAPP))
        for claim in await self.engine.claim(self.cohort, channel, limit=self.dice.randint(1, 3)):
            if claim.verdict is Verdict.SEND:
                assert (claim.notification_id, claim.channel) not in self.known, (
                    "sent again after it was known to have arrived"
                )
                assert claim.notification_id not in self.stopped, "sent after it was cancelled"
                self.in_hand.append(claim)
            else:
                await self.engine.flush(self.engine.decider(self.cohort).stopped(claim))

    async def answer(self, result: SendResult | None = None) -> None:
        """The provider answers one that is in hand, maybe long after it was called lost."""
        if not self.in_hand:
            return
        claim = self.in_hand.pop(self.dice.randrange(len(self.in_hand)))
        result = result or self.dice.choice(ANSWERS)
        if result is OK:
            self.arrived.setdefault(claim.notification_id, []).append(claim.channel)
        outcome = self.engine.answered(claim, result)
        self.told.append(outcome)
        await self.engine.flush(outcome)
        if result is OK:
            self.known.add((claim.notification_id, claim.channel))

    async def lose(self) -> None:
        """Somebody sees that some are overdue; they, or others who saw the same, write it down now or later."""
        for claim in self.dice.sample(self.in_hand, len(self.in_hand) // 2):
            await self.engine.pool.execute(
                "UPDATE work SET unknown_at = now() WHERE notification_id = $1 AND n = $2 AND attempt = $3 AND state = 1",
                claim.notification_id, claim.n, claim.attempt,
            )  # fmt: skip
        self.seen += await self.engine.lost(self.dice.choice((None, self.cohort.id)), limit=3)
        chosen = self.dice.sample(self.seen, self.dice.randint(0, len(self.seen)))
        telling = {(c.notification_id, c.n, c.attempt): c for c in chosen}.values()
        await self.engine.flush(*[self.engine.decider(self.cohort).lost(claim) for claim in telling])

    async def redrive(self) -> None:
        self.cohort = await self.engine.redriven(self.cohort)

    async def cancel(self) -> None:
        notification = self.dice.choice(self.ids)
        await self.engine.control.cancel(TENANT, notification_id=notification)
        self.stopped.add(notification)

    async def repeat(self) -> None:
        if self.told:
            await self.engine.flush(*self.dice.sample(self.told, min(3, len(self.told))))

    async def time_passes(self) -> None:
        await self.engine.make_due()

    async def holds(self) -> None:
        """What must be true at any moment: a step that is open is not called ended, unless it has arrived."""
        wrong = await self.engine.pool.fetch(
            "SELECT w.notification_id, d.status FROM work w JOIN delivery d USING (notification_id, n) "
            "WHERE d.status NOT IN ('retrying', 'sent')"
        )
        assert wrong == []

    async def to_its_end(self) -> None:
        """Everybody comes home, and a last worker does the rest."""
        await self.engine.pool.execute("UPDATE work SET unknown_at = now() WHERE state = 1")
        lost = await self.engine.lost(None, limit=100)
        await self.engine.flush(*[self.engine.decider(self.cohort).lost(claim) for claim in lost])
        while self.in_hand:
            await self.answer()
        for _ in range(100):
            if not await self.engine.work():
                return
            await self.time_passes()
            await self.claim()
            while self.in_hand:
                await self.answer(OK)
        raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("strategy", ["all", "fallback"])
@pytest.mark.parametrize("on_unknown", ["hold", "resend"])
@pytest.mark.parametrize("seed", range(12))
async def test_the_truth_is_told_in_the_end(engine: Engine, seed: int, strategy: str, on_unknown: str) -> None:
    cohort, ids = await engine.planned(
        4, user="u-1", channels=[Channel.EMAIL, Channel.INAPP], strategy=strategy,
        options=f'{{"on_unknown": "{on_unknown}"}}',
    )  # fmt: skip
    history = History(engine, cohort, ids, random.Random(f"{seed} {strategy} {on_unknown}"))
    steps = [history.claim] * 4 + [history.time_passes] * 4 + [history.lose] * 3 + [history.redrive, history.repeat]
    for _ in range(80):
        await history.dice.choice([*steps, *[history.answer] * 2, *[history.cancel] * (seed % 4 == 0)])()
        await history.holds()
    await history.to_its_end()
    for notification in ids:
        status, reason, final = await engine.end(notification)
        arrived = history.arrived.get(notification, [])
        assert final
        assert (Status(status) in UNDELIVERED) == (reason is not None), "lists find what ended undelivered by its reason"
        assert (status == "sent") is bool(arrived)
        events = await engine.pool.fetch(
            "SELECT detail ->> 'channel' AS channel FROM event WHERE notification_id = $1 AND type = 'unknown'",
            notification,
        )
        unknown = {e["channel"] for e in events}
        assumed = await engine.pool.fetch(
            "SELECT count(*) AS times FROM event WHERE notification_id = $1 AND detail ->> 'code' = 'no_outcome' "
            "GROUP BY n, detail ->> 'attempt'", notification,
        )  # fmt: skip
        assert {row["times"] for row in assumed} <= {1}
        assert all(arrived.count(channel) == 1 or channel in unknown for channel in arrived)
        assert on_unknown == "resend" or len(set(arrived)) == len(arrived)
        if strategy == "fallback" and len(set(arrived)) > 1:
            assert unknown, "it went on to the next place although the one before had taken it"
        deliveries = await engine.deliveries(notification)
        assert {c for c, (s, _) in deliveries.items() if s == "sent"} == set(arrived)
        assert not any(s == "retrying" for s, _ in deliveries.values())
