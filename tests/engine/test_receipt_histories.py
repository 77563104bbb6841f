"""Receipts in any order, among answers, losses, retries, failover, chains and cancellations: random histories on the real
statements, and a world that knows what was really reported."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.base import Message
from channels.receipts import Receipt
from domain.channels import Channel
from domain.lanes import Lane
from domain.receipts import better
from domain.results import ResultClass, SendResult
from domain.states import SUCCESS, Status, rank
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.conftest import EMPTY
from tests.engine.driving import activities, drive
from tests.engine.fleet import Provider
from tests.engine.mutations import Swap, Value
from tests.engine.support import TENANT, Engine

NOTIFICATIONS = 4
STEPS = 14
MOST_TURNS = 60
OPTIONS = (
    None, '{"fallback_after": "PT60S"}', '{"fallback_after": "PT60S", "fallback_on": "not_read"}',
    '{"on_unknown": "resend"}', '{"fallback_after": "PT60S", "on_unknown": "resend"}',
)  # fmt: skip
REPORTS = (Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED, Status.FAILED)
FAILURES = (ResultClass.RETRY, ResultClass.PERMANENT)
ARRIVED = (Status.DELIVERED, Status.READ)
Handed = tuple[str, Message]


class Hasty(Provider):
    """One that may report before it answers."""

    meanwhile: Callable[[Sequence[Message]], Awaitable[None]]

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        answers = await super().send(batch)
        await self.meanwhile(batch)
        return answers


@dataclass
class History:
    engine: Engine
    dice: random.Random
    accounts: Accounts = field(init=False)
    asked: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    handed: list[Handed] = field(default_factory=list)
    """(account, message) of each that a provider was given and may report on."""
    answered: set[str] = field(default_factory=set)
    """References of what was taken, as we know from the answer."""
    reported: dict[tuple[str, UUID, int, int], list[Status]] = field(default_factory=dict)
    """By account, notification, step and attempt."""
    cancelled: set[UUID] = field(default_factory=set)
    too_many: list[str] = field(default_factory=list)
    """Handed over after it was reported to have arrived, or after it was cancelled."""
    calm: bool = False
    """The end: providers take everything."""

    def __post_init__(self) -> None:
        def one(name: str, channel: Channel, **more: Any) -> Account:
            provider = Hasty(channel=channel, answer=self._answers(name))
            provider.meanwhile = self._meanwhile
            return Account(name, provider, Slots(8), **more)

        self.accounts = Accounts(
            [
                one("a", Channel.EMAIL, receipt_within=timedelta(seconds=20)), one("b", Channel.EMAIL, order=1),
                one("hook", Channel.WEBHOOK),
            ],
            spread=self.dice.random,
        )  # fmt: skip

    async def _meanwhile(self, batch: Sequence[Message]) -> None:
        """On these alone: what is reported of another one may come between its claim and its call, where nobody knows."""
        asked = {(message.notification_id, message.n) for message in batch}
        mine = [(a, m) for a, m in self.handed if (m.notification_id, m.n) in asked]
        if mine and not self.calm and self.dice.random() < 0.3:
            await self._report(mine[-1])

    def _answers(self, account: str) -> Callable[[Message], SendResult]:
        def answer(message: Message) -> SendResult:
            one, n = message.notification_id, message.n
            if self._done(one, n) or one in self.cancelled:
                self.too_many.append(message.delivery_id)
            kind = ResultClass.OK if self.calm else self.dice.choice(
                [ResultClass.OK] * 4 + [ResultClass.RETRY, ResultClass.UNKNOWN, ResultClass.PERMANENT]
            )  # fmt: skip
            if kind in {ResultClass.OK, ResultClass.UNKNOWN}:
                self.handed.append((account, message))
            if kind is not ResultClass.OK:
                return SendResult(kind, code="x")
            self.answered.add(message.reference)
            return SendResult(kind, code="x", provider_id=_id_of(account, message))

        return answer

    def _done(self, one: UUID, n: int) -> bool:
        """By what was reported so far nothing of this step may be sent any more."""
        chain = self.asked[one]["strategy"] != "all"
        wants = Status.READ if "not_read" in (self.asked[one]["options"] or "") and chain else Status.DELIVERED
        told = [s for (_, other, m, _), all_ in self.reported.items() if other == one and (chain or m == n) for s in all_]
        same = [s for (_, other, m, _), all_ in self.reported.items() if (other, m) == (one, n) for s in all_]
        return any(s in ARRIVED for s in same) or any(s in ARRIVED and rank(s) >= rank(wants) for s in told)

    async def accept(self) -> None:
        asked = {
            "user": "u-1", "channels": self.dice.sample([Channel.EMAIL, Channel.WEBHOOK], 2),
            "strategy": self.dice.choice(["all", "fallback"]), "options": self.dice.choice(OPTIONS),
        }  # fmt: skip
        [one] = await self.engine.accepted(1, **asked)
        self.asked[one] = asked

    async def drive(self) -> None:
        for lane in Lane:
            while await self.engine.cohorts.group(lane) is not None:
                pass
        parts = activities(self.engine, accounts=self.accounts)
        for row in await self.engine.pool.fetch("SELECT id, lane, tenant, epoch FROM cohort"):
            cohort = CohortRow(row["id"], row["epoch"], Lane(row["lane"]), row["tenant"])
            await ActivityEnvironment().run(parts.deliver, drive(cohort))

    async def report(self) -> None:
        """On some message that was handed over, maybe again, maybe what contradicts what was said before."""
        if self.handed:
            await self._report(self.dice.choice(self.handed))

    async def _report(self, handed: Handed) -> None:
        account, message = handed
        status = self.dice.choice(REPORTS)
        result = self.dice.choice(FAILURES) if status is Status.FAILED else None
        key = (account, message.notification_id, message.n, message.attempt)
        self.reported.setdefault(key, []).append(status)
        name, reference = self._named(account, message)
        await self.engine.receipts.take(account, [Receipt(name, status, result=result, reference=reference)])

    def _named(self, account: str, message: Message) -> tuple[str | None, str | None]:
        """As each kind of provider names it: by an id that is ours, by its own, by our reference, or by both."""
        name = _id_of(account, message)
        if name is None or account == "a":
            return name, message.reference if name is None else message.delivery_id
        ways: list[tuple[str | None, str | None]] = [(name, message.reference), (None, message.reference)]
        return self.dice.choice(ways + [(name, None)] * (message.reference in self.answered))

    async def step(self) -> None:
        what = self.dice.choice(["drive", "due", "due", "report", "report", "report", "cancel", "accept"])
        if what == "due":
            await self.engine.make_due()
        if what in {"drive", "due"}:
            await self.drive()
        elif what == "report":
            await self.report()
        elif what == "accept" and len(self.asked) < NOTIFICATIONS:
            await self.accept()
        elif what == "cancel" and self.dice.random() < 0.2:
            one = self.dice.choice(list(self.asked))
            self.cancelled.add(one)
            await self.engine.control.cancel(TENANT, notification_id=one)

    async def to_its_end(self) -> None:
        self.calm = True
        await self._until_nothing_is_open()
        for _ in range(4):
            await self.report()
            await self._until_nothing_is_open()
        await self.engine.end_of_windows()

    async def _until_nothing_is_open(self) -> None:
        for _ in range(MOST_TURNS):
            await self.engine.make_due()
            await self.drive()
            if not await self.engine.work():
                return
        raise AssertionError("it does not come to an end")

    def _all_failed(self, one: UUID, n: int) -> bool:
        """Of those of which anything is known."""
        messages = [(a, m) for a, m in self.handed if (m.notification_id, m.n) == (one, n)]
        told = [(m.reference in self.answered, self.reported.get((a, one, n, m.attempt), [])) for a, m in messages]
        known = [reduce(better, statuses, None) for taken, statuses in told if taken or statuses]
        return bool(known) and all(status is Status.FAILED for status in known)

    async def is_the_truth(self) -> None:
        assert self.too_many == []
        for one in self.asked:
            status, reason, final = await self.engine.end(one)
            told = [s for (_, other, _, _), all_ in self.reported.items() if other == one for s in all_]
            best = max((s for s in told if s in ARRIVED), key=rank, default=None)
            assert final, "no receipt can come any more"
            assert (Status(status) if status in ARRIVED else None) == best, (status, told)
            assert (status in SUCCESS) == (reason is None)
            if status == "failed" and self.asked[one]["strategy"] == "fallback" and one not in self.cancelled:
                assert len(await self.engine.deliveries(one)) == 2, "it has failed, and a channel was not tried"
            for row in await self.engine.pool.fetch(
                "SELECT n, status, reason FROM delivery WHERE notification_id = $1", one
            ):
                assert row["status"] != "retrying"
                assert row["status"] != "sent" or not self._all_failed(one, row["n"]), "all of its messages have failed"
                if row["reason"] == "undelivered":
                    mine = [
                        s for (_, other, n, _), all_ in self.reported.items() if (other, n) == (one, row["n"]) for s in all_
                    ]
                    assert Status.FAILED in mine
                    assert not set(mine) & set(ARRIVED)


def _id_of(account: str, message: Message) -> str | None:
    """What the provider calls it: by our delivery id, by an id of its own, or by none."""
    return {"a": message.delivery_id, "b": f"b:{message.reference}", "hook": None}[account]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
async def test_whatever_is_reported_the_end_is_the_truth(engine: Engine, seed: int) -> None:
    history = History(engine, random.Random(seed))
    await history.accept()
    for _ in range(STEPS):
        await history.step()
    await history.to_its_end()
    await history.is_the_truth()


MUTATIONS: dict[str, Swap | Value] = {
    "each name is a message": Value(
        "infra.postgres.engine.step_reports.messages_of", lambda reports: list(range(len(reports)))
    ),
    "what has ended is over": Swap("chains._RESUMABLE", "m.expires_at > now()", "false"),
    "a wait that is met goes on": Swap("receipts._STOP", "AND state = 0", "AND false"),
    "what is early is not looked for": Swap("receipts._REPORTED", "(NOT told OR status <> 'sent')", "false"),
}


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
async def test_the_histories_find_what_is_broken(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name].apply(monkeypatch)

    async def until_one_shows_it() -> None:
        for seed in range(60):
            await engine.pool.execute(EMPTY)
            await test_whatever_is_reported_the_end_is_the_truth(engine, seed)

    with pytest.raises(AssertionError):
        await until_one_shows_it()
