"""A close and what arrives meanwhile: nothing is lost, and nothing is in two messages."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from activities.cohorts.planning import Planner
from domain.lanes import Lane
from infra.postgres.engine.cancelling import CancelRepository
from infra.postgres.engine.plans import PlanRepository
from tests.digests.conftest import Office
from tests.engine.gates import Gate, done_or_blocked, gated

WRITERS, EACH = 6, 12


def numbers(texts: list[str]) -> list[int]:
    """Every item of every message."""
    return [int(n) for text in texts for n in text.partition(":")[2].split()]


async def test_writers_and_closes_at_the_same_time(office: Office) -> None:
    """Catches: a list that is read before the close, a close without the slot's lock, an item in two lists. Windows end
    by themselves here: a test that moved due times would be a writer that the service does not have."""
    ids: dict[int, UUID] = {}
    writing = True

    async def write(writer: int) -> None:
        for turn in range(EACH):
            n = writer * EACH + turn
            if turn % 4 == 3:
                [item] = await office.batch([office.wish(n, digest={"key": "post-7", "window": 1})])
                ids[n] = UUID(item["id"])
            else:
                first = random.choice(["collect", "at_once"])
                ids[n] = await office.posted(n, digest={"key": "post-7", "window": 1, "first": first})
            await asyncio.sleep(random.uniform(0, 0.6))

    async def close() -> None:
        while writing:
            await office.deliver()
            await asyncio.sleep(0.001)

    closes = [asyncio.create_task(close()) for _ in range(2)]
    await asyncio.gather(*(write(n) for n in range(WRITERS)))
    writing = False
    await asyncio.gather(*closes)
    await office.close()
    assert sorted(numbers(office.texts)) == sorted(ids)
    assert 1 < len(office.texts) < len(ids)
    counts = [int(text.partition(":")[0]) for text in office.texts]
    assert counts == [len(text.split()) - 1 for text in office.texts]
    assert {(await office.state(i)) for i in ids.values()} == {("sent", None)}


@pytest.mark.parametrize("statement", ["clock_timestamp() AS now", "INSERT INTO notification"])
async def test_an_item_that_is_being_accepted_is_in_the_digest_that_closes(office: Office, statement: str) -> None:
    """The close waits for the accept that holds the slot: its 202 says that it was collected into this one."""
    first = await office.posted(1)
    await office.engine.make_due()
    gate = Gate(statement, after=True)
    collector = office.api.container.accept._collector
    collector._repository._pool = gated(office.pool, gate)
    posting = asyncio.create_task(office.posted(2))
    await gate.reached.wait()
    delivering = asyncio.create_task(office.deliver())
    await done_or_blocked(office.pool, delivering)
    waits = not delivering.done()
    gate.open.set()
    second = await posting
    await delivering
    assert waits
    assert office.texts == ["2: 1 2"]
    assert {await office.state(i) for i in (first, second)} == {("sent", None)}


async def test_an_item_that_comes_while_it_closes_opens_the_next(office: Office) -> None:
    await office.posted(1)
    await office.engine.make_due()
    gate = Gate("DELETE FROM digest", after=True)
    planning = asyncio.create_task(office.deliver(over=gated(office.pool, gate)))
    await gate.reached.wait()
    posting = asyncio.create_task(office.posted(2))
    await done_or_blocked(office.pool, posting)
    waits = not posting.done()
    gate.open.set()
    second = await posting
    await planning
    assert waits
    assert office.texts == ["1: 1"]
    assert (await office.state(second))[0] == "scheduled"


async def test_a_digest_closed_and_not_planned_is_still_sent(office: Office) -> None:
    """A worker that dies between the two leaves a closed list behind, whose plan is found again."""
    await office.posted(1)
    await office.engine.make_due()
    cohort = await office.engine.grouped(Lane.MEDIUM)
    entered = await office.engine.admission.enter(cohort, limit=10)
    assert entered is not None
    await office.engine.plans.close_digests(cohort.id, [item.notification_id for item in entered.unplanned])
    late = await office.posted(2)
    await office.engine.pool.execute("UPDATE work SET cohort = NULL; DELETE FROM cohort")
    await office.deliver()
    assert office.texts == ["1: 1"]
    assert (await office.state(late))[0] == "scheduled"


async def test_a_slot_whose_carrier_has_gone_collects_nothing(office: Office) -> None:
    """Whatever happened to the carrier: what was accepted would otherwise wait for nobody."""
    first = await office.posted(1)
    await office.pool.execute("DELETE FROM work WHERE notification_id = $1", first)
    second = await office.posted(2)
    assert (await office.read(second))["collected_in"] is None
    assert (await office.state(second))[0] == "scheduled"


async def test_a_cancellation_races_the_close(office: Office) -> None:
    """Whichever comes first: the answer is what happened."""
    ids = [await office.posted(n) for n in (1, 2)]
    await office.engine.make_due()
    gate = Gate("UPDATE notification SET digest = NULL", after=True)
    control = CancelRepository(gated(office.pool, gate))
    cancelling = asyncio.create_task(control.cancel("acme", notification_id=ids[1]))
    await gate.reached.wait()
    delivering = asyncio.create_task(office.deliver())
    await done_or_blocked(office.pool, delivering)
    waits = not delivering.done()
    gate.open.set()
    assert (await cancelling).result == "cancelled"
    await delivering
    assert waits
    assert office.texts == ["1: 1"]
    assert await office.state(ids[1]) == ("cancelled", "cancelled_by_request")


async def test_carriers_are_cancelled_while_others_write_and_close(office: Office) -> None:
    """Each that was not cancelled is in exactly one message, whoever carried it in between."""
    ids: dict[int, UUID] = {}
    cancelled: set[int] = set()

    async def write(n: int) -> None:
        ids[n] = await office.posted(n)
        if n % 3 == 0 and (await office.call(ids[n], "cancel"))["result"] == "cancelled":
            cancelled.add(n)

    async def close() -> None:
        for _ in range(6):
            await office.close()
            await asyncio.sleep(0.01)

    await asyncio.gather(*(write(n) for n in range(40)), close())
    await office.close()
    assert cancelled
    assert sorted(numbers(office.texts)) == sorted(set(ids) - cancelled)
    assert {n for n, i in ids.items() if (await office.state(i))[0] == "cancelled"} == cancelled


async def test_planning_closes_only_what_carries(office: Office) -> None:
    """A plain cohort's plan takes no statement more than it did."""
    gate = Gate("FROM digest")
    await office.engine.accepted(2)
    cohort = await office.engine.grouped()
    entered = await office.engine.admission.enter(cohort, limit=10)
    assert entered is not None
    planner = Planner(PlanRepository(gated(office.pool, gate)), office.engine.accounts)
    assert (await planner.plan(cohort, unplanned=entered.unplanned, now=entered.now)).count == 2
    assert not gate.reached.is_set()
