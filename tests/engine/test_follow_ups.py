"""What becomes due again while others of its cohort are still being handed over waits for none of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.permits import Permits
from activities.accounts.slots import Slots
from activities.cohorts.groups import Groups
from channels.base import Capabilities
from channels.memory import MemoryProvider
from domain.health import IN_A_ROW
from domain.lanes import FEW, Lane
from domain.results import ResultClass
from infra.postgres.engine.permits import PermitRepository
from tests.engine.driving import HeldProvider, activities, drive
from tests.engine.gates import Gate, gated
from tests.engine.support import ADDRESSES, EVERYWHERE, PERMANENT, RETRY, Engine
from workflows.delivery import Driven

EMAIL, WEBHOOK, INAPP = EVERYWHERE
HOOK = (WEBHOOK, ADDRESSES[WEBHOOK])


class Slow(HeldProvider):
    """Its calls may take as long as a test needs."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, call_timeout_s=30.0)


class Driving:
    """One call of the activity over a cohort with one webhook that hangs."""

    def __init__(self, engine: Engine, *accounts: Account) -> None:
        self.engine = engine
        self.hanging = Slow(channel=WEBHOOK)
        self.accounts = Accounts([Account("hook", self.hanging, Slots(8)), *accounts], spread=lambda: 0.0)

    @contextlib.asynccontextmanager
    async def beside_a_call_that_hangs(self, lane: Lane = Lane.HIGH, **options: Any) -> AsyncIterator[None]:
        """What was accepted is driven together with the webhook, which is answered when the test has seen enough."""
        await self.engine.accepted(1, lane=lane, to=HOOK)
        cohort = await self.engine.grouped(lane)
        work = activities(self.engine, accounts=self.accounts, **options)
        self.running = asyncio.create_task(work.deliver(drive(cohort)))
        async with asyncio.timeout(15):
            await self.hanging.until(lambda: self.hanging.inside == 1)
            yield
        assert self.hanging.inside == 1, "it still hangs"
        await self.hanging.let_go()
        self.driven: Driven = await self.running


async def test_whoever_fails_over_waits_for_nobody(engine: Engine) -> None:
    """Caught: the other account was asked only when every call of the cohort had been answered, ten seconds later."""
    first, other = MemoryProvider(), Slow()
    first.script(RETRY)
    driving = Driving(engine, Account("a", first, Slots(8)), Account("b", other, Slots(8), order=1))
    [one] = await engine.accepted(1, lane=Lane.HIGH)
    async with driving.beside_a_call_that_hangs():
        await other.until(lambda: other.inside == 1)
        await other.let_go()
    assert driving.driven == Driven(3, {})
    assert await engine.end(one) == ("sent", None, True)


async def test_bulk_that_falls_back_waits_for_nobody(engine: Engine) -> None:
    """A tenant's own cohort takes on nothing. All of it goes on to the next place, and what fails there fails over."""
    mail, inapp, other = MemoryProvider(answer=lambda _: PERMANENT), MemoryProvider(channel=INAPP), Slow(channel=INAPP)
    inapp.script(RETRY)
    driving = Driving(
        engine,
        Account("mail", mail, Slots(8)),
        Account("inapp", inapp, Slots(8)),
        Account("inapp-b", other, Slots(8), order=1),
    )
    ids = await engine.accepted(120, lane=Lane.LOW, user="u-1", channels=[EMAIL, INAPP], strategy="fallback")
    async with driving.beside_a_call_that_hangs(Lane.LOW):
        await other.until(lambda: other.inside == 1)
        await other.let_go()
    assert driving.driven.waits_s == {}
    assert len(inapp.sent) == len(ids)
    assert {await engine.end(i) for i in ids} == {("sent", None, True)}


async def test_what_is_tried_again_soon_waits_for_nobody(engine: Engine) -> None:
    """The wait after a failure is a second or two; the call beside it takes ten."""
    mail = Slow()
    mail.script(RETRY)
    driving = Driving(engine, Account("mail", mail, Slots(8)))
    await engine.accepted(1, lane=Lane.HIGH)
    async with driving.beside_a_call_that_hangs():
        await mail.let_go(1)
        await mail.until(lambda: mail.inside == 0 and len(mail.sent) == 1)
        await mail.until(lambda: mail.inside == 1)
        await mail.let_go()
    assert driving.driven.waits_s == {}


async def test_whoever_goes_round_an_open_circuit_waits_for_nobody(engine: Engine) -> None:
    """No outcome says so: the rows are moved, and nobody else looks for them."""
    first, other = MemoryProvider(), Slow()
    driving = Driving(engine, Account("a", first, Slots(8)), Account("b", other, Slots(8), order=1))
    await engine.accepted(1, lane=Lane.HIGH)
    await engine.accepted(1, lane=Lane.HIGH, to=HOOK)
    cohort = await engine.grouped(Lane.HIGH)
    await Engine(engine.pool, {}, driving.accounts).plan(cohort)
    account = driving.accounts.get("a")
    assert account is not None
    for _ in range(IN_A_ROW):
        account.health.note(ResultClass.RETRY, now_s=driving.accounts.clock(), took_s=0.0)
    running = asyncio.create_task(activities(engine, accounts=driving.accounts).deliver(drive(cohort)))
    await driving.hanging.until(lambda: driving.hanging.inside == 1)
    await other.until(lambda: other.inside == 1)
    for held in (other, driving.hanging):
        await held.let_go()
    assert (await running).waits_s == {}
    assert (len(first.sent), len(other.sent)) == (0, 1)


async def test_what_waits_for_permits_waits_for_nothing_else(engine: Engine) -> None:
    """One by one as the rate allows, though only the first one's wait is known in the process."""
    mail = Slow()
    permits = Permits(PermitRepository(engine.pool), account="mail", rate_per_second=10)
    driving = Driving(engine, Account("mail", mail, Slots(8), permits=permits))
    await engine.accepted(4, lane=Lane.HIGH)
    async with driving.beside_a_call_that_hangs():
        await mail.until(lambda: mail.inside == 4)
        await mail.let_go()
    assert driving.driven == Driven(5, {})


async def test_follow_ups_go_on_when_no_other_claim_is_made_any_more(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: an activity whose time was up just before. What is in flight may take ten seconds more."""
    monkeypatch.setattr("activities.delivery.DRIVE_WINDOW", timedelta(seconds=0.5))
    first, other = Slow(), Slow()
    first.script(RETRY)
    driving = Driving(engine, Account("a", first, Slots(8)), Account("b", other, Slots(8), order=1))
    await engine.accepted(1, lane=Lane.HIGH)
    async with driving.beside_a_call_that_hangs():
        await asyncio.sleep(0.6)
        await first.let_go()
        await other.until(lambda: other.inside == 1)
        await other.let_go()
    assert driving.driven == Driven(3, {})


async def test_a_stopping_worker_follows_up_nothing(engine: Engine) -> None:
    """A deploy makes no unknowns, and waits for nothing that another worker can do."""
    stop, first, other = asyncio.Event(), Slow(), Slow()
    first.script(RETRY)
    driving = Driving(engine, Account("a", first, Slots(8)), Account("b", other, Slots(8), order=1))
    await engine.accepted(1, lane=Lane.HIGH)
    async with driving.beside_a_call_that_hangs(stopping=stop.is_set):
        stop.set()
        await first.let_go()
        await first.until(lambda: first.inside == 0)
    assert list(driving.driven.waits_s) == ["b"]
    assert other.sent == []


async def test_a_cohort_without_trouble_costs_what_it_did(engine: Engine) -> None:
    """Catches: a look for what is due again where nothing is: a statement more for each flush of bulk."""
    await engine.accepted(FEW + 180, lane=Lane.LOW)
    cohort = await engine.grouped(Lane.LOW)
    gate = Gate("nothing stops here")
    await activities(engine, pool=gated(engine.pool, gate)).deliver(drive(cohort))
    begins = [" ".join(statement.split())[:40] for statement in gate.seen]
    assert not [b for b in begins if "min(due_at)" in b]
    assert sum("SET state = 1" in statement for statement in gate.seen) <= 200 // 8 + 2


async def test_whoever_waits_for_all_waits_for_those_too_that_began_meanwhile() -> None:
    """Caught: a cohort whose first calls had ended, while follow-ups of it hung, kept its place in the lane."""
    answered = asyncio.Event()

    class Calls:
        handed_over = 0

        async def account(self, name: str) -> None:
            if name == "hangs":
                await answered.wait()

        async def close(self) -> None: ...

    class Due:
        async def accounts(self) -> list[str]:
            return ["quick"]

        async def next_s(self, account: str) -> float | None:
            return None

    groups = Groups(
        lambda _: Calls(),  # type: ignore[arg-type,return-value]
        due=Due(),
        stopping=lambda: False,
        follow_ups_stop=lambda: False,
        follow_up_every_s=0.0,
    )
    groups.start()
    asyncio.get_running_loop().call_soon(groups.due_again, "hangs", 0.0)
    assert not await groups.wait_within(timedelta(milliseconds=50))
    answered.set()
    await groups.wait_all()


async def test_followed_up_together_and_not_over_and_over(engine: Engine) -> None:
    """Catches: a busy loop where something stays due, for instance because somebody else holds its row."""
    looked: list[str] = []
    enough = asyncio.Event()

    class Nothing:
        handed_over = 0

        async def account(self, name: str) -> None:
            looked.append(name)
            if len(looked) == 3:
                enough.set()

        async def close(self) -> None: ...

    class AlwaysDue:
        async def accounts(self) -> list[str]:
            return []

        async def next_s(self, account: str) -> float | None:
            return 0.0 if len(looked) < 3 else None

    loop = asyncio.get_running_loop()
    groups = Groups(
        lambda _: Nothing(),  # type: ignore[arg-type,return-value]
        due=AlwaysDue(),
        stopping=lambda: False,
        follow_ups_stop=lambda: False,
        follow_up_every_s=0.05,
    )
    begun_s = loop.time()
    for _ in range(5):
        groups.due_again("a", loop.time())
    await enough.wait()
    assert loop.time() - begun_s >= 0.1, "each in its turn"
    await groups.wait_all()
    assert looked == ["a"] * 3
