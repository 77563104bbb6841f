"""The engine in the real Temporal, with the real activities and database: end to end, and through breakdowns."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest
from temporalio.client import Client

from activities.grouping import TemporalDriver
from domain.channels import Channel
from domain.ids import uuid7
from domain.lanes import FEW, Lane
from infra.postgres.engine.cohorts import CohortRow
from tests.engine.driving import HeldProvider, accounts_of, activities
from tests.engine.support import EVERYWHERE, RETRY, Engine
from tests.workflows.wiring import Service, serving
from workers.roles import Role
from workflows.housekeeping import QUEUE, SweepWorkflow

BOTH = (Role.HIGH, Role.MEDIUM)
"""Few of the medium lane are driven by the high lane's workers."""


async def ended(client: Client, cohort: CohortRow) -> None:
    await client.get_workflow_handle(cohort.workflow_id).result()


async def sent(service: Service) -> Counter[tuple[object, str]]:
    """How often each delivery reached a provider."""
    return Counter((m.notification_id, str(m.channel)) for p in service.engine.providers.values() for m in p.sent)


@pytest.mark.parametrize("lane", list(Lane))
async def test_one_notification_on_three_channels(client: Client, pool: asyncpg.Pool, lane: Lane) -> None:
    """The whole way in each lane: accept, group, start, plan, hand over, record, end."""
    async with serving(client, pool, roles=tuple({Role.HIGH, Role(lane.label)})) as service:
        engine = service.engine
        [one] = await engine.accepted(1, lane=lane, user="u-1", channels=EVERYWHERE)
        [cohort] = await service.start_all()
        await ended(client, cohort)
        assert await engine.end(one) == ("sent", None, True)
        assert await sent(service) == {(one, str(channel)): 1 for channel in EVERYWHERE}
        assert (await engine.events(one)).count("attempt") == 3
        assert await engine.work() == []
        assert await pool.fetchval("SELECT count(*) FROM cohort") == 0
    drivers = await pool.fetch("SELECT DISTINCT cohort, epoch FROM event WHERE notification_id = $1", one)
    assert [tuple(r) for r in drivers] == [(cohort.id, 1)]  # the timeline names the workflow


async def test_a_retry_comes_at_its_time_in_the_same_workflow(client: Client, pool: asyncpg.Pool) -> None:
    """What is due within the horizon is waited for in Temporal, by a timer."""
    async with serving(client, pool, roles=(Role.HIGH,)) as service:
        engine = service.engine
        engine.providers[Channel.EMAIL].script(RETRY)
        [one] = await engine.accepted(1, lane=Lane.HIGH)
        [cohort] = await service.start_all()
        await ended(client, cohort)
        assert await engine.end(one) == ("sent", None, True)
        assert [m.attempt for m in engine.providers[Channel.EMAIL].sent] == [1, 2]


async def test_what_is_due_much_later_ends_its_workflow(client: Client, pool: asyncpg.Pool) -> None:
    """It goes back to `work`, and another workflow takes it up when its time has come."""
    async with serving(client, pool, roles=BOTH) as service:
        engine = service.engine
        engine.providers[Channel.EMAIL].script(RETRY)
        [one] = await engine.accepted(1)
        await pool.execute("UPDATE work SET failures = 5")  # the sixth wait is 900 s, beyond the horizon
        cohort = await engine.grouped()
        await engine.plan(cohort)
        await pool.execute("UPDATE work SET failures = 5")
        assert await service.driver.start(cohort)
        await ended(client, cohort)
        [row] = await engine.work(one)
        assert (row["cohort"], row["state"]) == (None, 0)
        await engine.make_due()
        [second] = await service.start_all()
        await ended(client, second)
        assert await engine.end(one) == ("sent", None, True)


async def test_a_terminated_workflow_is_replaced_and_nothing_is_sent_twice(client: Client, pool: asyncpg.Pool) -> None:
    """Somebody terminates it in the Web UI while some are sent, some are in flight and some wait. The sweep drives the
    cohort again in the next epoch, and each message is sent exactly once."""
    provider = HeldProvider()
    async with serving(client, pool, accounts=accounts_of(provider, slots=2), roles=BOTH) as service:
        engine = service.engine
        ids = await engine.accepted(8)
        [cohort] = await service.start_all()
        await provider.let_go(3)
        await provider.until(lambda: len(provider.sent) == 3 and provider.inside == 2)
        handle = client.get_workflow_handle(cohort.workflow_id)
        await handle.terminate("by hand")
        await engine.lapse(cohort)
        assert (await service.sweep.run_once()).redriven == 1
        await provider.let_go()
        await provider.until(lambda: len(provider.sent) == 8)
        assert (await service.sweep.run_once()).redriven == 0
    # Not waited for: the new workflow may have seen rows in the old one's hands and looks again when they would be unknown.
    assert Counter(m.notification_id for m in provider.sent) == dict.fromkeys(ids, 1)
    assert {(await engine.end(i)) for i in ids} == {("sent", None, True)}
    assert await engine.work() == []


async def test_a_holding_workflow_that_is_terminated_loses_no_retry(client: Client, pool: asyncpg.Pool) -> None:
    """Its timer is gone; the row is not."""
    async with serving(client, pool, roles=(*BOTH, Role.HOUSEKEEPING)) as service:
        engine = service.engine
        engine.providers[Channel.EMAIL].script(RETRY, RETRY)
        ids = await engine.accepted(2)
        cohort = await engine.grouped()
        await engine.plan(cohort)
        await pool.execute("UPDATE work SET failures = 2")  # the next wait is 30 s
        assert await service.driver.start(cohort)
        while not await pool.fetchval("SELECT bool_or(holding) FROM cohort"):  # noqa: ASYNC110 - a table has no events
            await asyncio.sleep(0.01)
        await client.get_workflow_handle(cohort.workflow_id).terminate("by hand")
        await engine.lapse(cohort)
        await engine.make_due()
        swept = await client.execute_workflow(SweepWorkflow.run, id=f"sweep-{uuid7()}", task_queue=QUEUE)
        assert swept.redriven == 1
        await ended(client, CohortRow(cohort.id, 2, cohort.lane, None))
        assert {(await engine.end(i)) for i in ids} == {("sent", None, True)}
        assert sorted((await sent(service)).values()) == [2, 2]


async def test_a_lost_start_is_made_up_for(client: Client, pool: asyncpg.Pool) -> None:
    """The process died between the cohort's row and the start of its workflow."""
    async with serving(client, pool, roles=BOTH) as service:
        engine = service.engine
        [one] = await engine.accepted()
        cohort = await engine.grouped()
        assert (await service.sweep.run_once()).redriven == 0  # its lease still runs
        await engine.lapse(cohort)
        assert (await service.sweep.run_once()).redriven == 1
        await ended(client, CohortRow(cohort.id, 2, cohort.lane, None))
        assert await engine.end(one) == ("sent", None, True)


async def test_a_running_workflow_is_left_to_itself(client: Client, pool: asyncpg.Pool) -> None:
    """Its lease lapsed while it was busy: Temporal says that it runs."""
    provider = HeldProvider()
    async with serving(client, pool, accounts=accounts_of(provider), roles=BOTH) as service:
        await service.engine.accepted()
        [cohort] = await service.start_all()
        await provider.until(lambda: provider.inside == 1)
        await service.engine.lapse(cohort)
        assert (await service.sweep.run_once()).redriven == 0
        assert await service.engine.cohorts.lapsed(limit=1) == []
        await provider.let_go()
        await ended(client, cohort)


async def test_what_the_driver_says_of_a_workflow(client: Client, pool: asyncpg.Pool) -> None:
    """Started twice is started; unknown and ended do not run. A second start of an epoch that has ended must not run it
    again."""
    async with serving(client, pool, roles=(Role.LOW,)) as service:
        one, *_ = await service.engine.accepted(FEW + 1, lane=Lane.LOW, tenant="acme")
        [cohort] = await service.start_all()
        await ended(client, cohort)
        assert await service.driver.is_running(cohort) is False
        assert await service.driver.start(cohort) is True
        assert await service.driver.is_running(cohort) is False
        assert await service.driver.is_running(CohortRow(uuid7(), 1, Lane.LOW, None)) is False
        description = await client.get_workflow_handle(cohort.workflow_id).describe()
    assert {p.key.name: p.value for p in description.typed_search_attributes if p.key.name.startswith("Tongda")} == {
        "TongdaLane": "low", "TongdaKind": "delivery", "TongdaTenant": "acme",
    }  # fmt: skip
    assert description.run_id
    assert (await Engine.over(pool).end(one))[0] == "sent"


async def test_a_worker_that_shuts_down_brings_home_what_is_in_flight(client: Client, pool: asyncpg.Pool) -> None:
    """A deploy makes no unknowns: the next worker finds only what was not begun."""
    provider, stop = HeldProvider(), asyncio.Event()
    accounts = accounts_of(provider, slots=2)
    engine = Engine.over(pool)
    ids = await engine.accepted(5)

    delivery = activities(engine, accounts=accounts, stopping=stop.is_set)
    async with serving(client, pool, accounts=accounts, delivery=delivery, roles=BOTH) as service:
        [cohort] = await service.start_all()
        await provider.until(lambda: provider.inside == 2)
        stop.set()
        letting_go = asyncio.create_task(provider.let_go())
    await letting_go
    assert len(provider.sent) == 2
    assert [r["state"] for r in await engine.work()] == [0] * 3
    async with serving(client, pool, roles=BOTH) as service:
        await ended(client, cohort)
        others = [m.notification_id for m in service.engine.providers[Channel.EMAIL].sent]
    assert sorted([*others, *(m.notification_id for m in provider.sent)]) == sorted(ids)


async def test_workflows_carry_the_keys_of_priority_and_fairness_within_their_lane(
    client: Client, pool: asyncpg.Pool
) -> None:
    """As the server has them: what was lost goes first, then few messages, then many; each tenant that has many is a key of
    its own, and those who have few share a cohort, which the workers without bulk drive."""
    async with serving(client, pool, roles=BOTH) as service:
        engine = service.engine
        await engine.accepted(FEW + 1, lane=Lane.MEDIUM, tenant="many")
        await engine.accepted(1, lane=Lane.MEDIUM, tenant="few")
        started = await service.start_all()
        lost = CohortRow(uuid7(), 2, Lane.MEDIUM, "lost")
        await TemporalDriver(client).start(lost)
        keys: dict[str, tuple[str, int, str]] = {}
        for cohort in (*started, lost):
            await ended(client, cohort)
            handle = client.get_workflow_handle(cohort.workflow_id)
            first = await anext(aiter(handle.fetch_history_events()))
            begun = first.workflow_execution_started_event_attributes
            priority = begun.priority
            keys[cohort.tenant or "few"] = (begun.task_queue.name, priority.priority_key, priority.fairness_key)
    assert keys == {"many": ("medium", 3, "many"), "few": ("high", 4, ""), "lost": ("medium", 1, "lost")}
