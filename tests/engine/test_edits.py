"""Edit against plan and claim: it changes everything or nothing, and nothing goes out as it was before."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from activities.cohorts.planning import Planner
from domain.channels import Channel
from domain.errors import HandedOff, NotFound
from domain.lanes import Lane
from domain.rechecks import Verdict
from infra.postgres.engine.edits import Edit, Edited, EditRepository
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.plans import PlanRepository
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.mutations import Swap
from tests.engine.support import RETRY, TENANT, Engine, soon

NEW = '{"title": "New", "text": "New"}'
BOTH: dict[str, Any] = {"user": "u-1", "channels": [Channel.EMAIL, Channel.WEBHOOK]}
WRITE = "UPDATE notification SET version"


def an_edit(*, version: int = 1, send_at: datetime | None = None, lane: Lane = Lane.MEDIUM) -> Edit:
    return Edit(("content",), version, lane, "", None, None, NEW, None, None, send_at, None, timedelta(hours=1))


async def edit(engine: Engine, one: UUID, *, gate: Gate | None = None, **fields: Any) -> Edited | None:
    pool = gated(engine.pool, gate) if gate else engine.pool
    return await EditRepository(pool).write(TENANT, notification_id=one, edit=an_edit(**fields))


async def refused(engine: Engine, one: UUID) -> str:
    with pytest.raises(HandedOff) as error:
        await edit(engine, one)
    assert (await engine.notification(one))["version"] == 1
    return error.value.fence


async def test_before_the_plan(engine: Engine) -> None:
    [one] = await engine.accepted()
    at = soon(3600)
    edited = await edit(engine, one, send_at=at, lane=Lane.HIGH)
    assert edited == Edited(2, at + timedelta(hours=1), due=False)
    [step] = await engine.work(one)
    assert (step["n"], step["version"], step["lane"], step["due_at"], step["cohort"]) == (0, 2, 0, at, None)
    assert (await engine.notification(one))["status"] == "scheduled"
    assert await engine.events(one) == ["edited"]


async def test_what_was_planned_is_planned_anew(engine: Engine) -> None:
    """The dropped channel's record goes too: it would count in the end of what is planned anew."""
    await engine.person("u-1")
    await engine.pool.execute("DELETE FROM identity WHERE channel = 'webhook'")
    cohort, [one] = await engine.planned(**BOTH)
    assert await engine.deliveries(one) == {"webhook": ("suppressed", "no_address")}
    edited = await edit(engine, one)
    assert edited is not None
    assert edited.due
    assert await engine.deliveries(one) == {}
    assert await engine.claim(cohort) == []
    again = await engine.grouped()
    await engine.plan(again)
    [claim] = await engine.claim(again)
    assert (claim.content, claim.verdict) == (NEW, Verdict.SEND)
    await engine.answer([claim])
    assert (await engine.end(one))[0] == "sent"


async def test_the_fences(engine: Engine) -> None:
    cohort, [one] = await engine.planned(**BOTH)
    [claim] = await engine.claim(cohort)
    assert await refused(engine, one) == "handing_over"
    await engine.answer([claim], RETRY)
    assert await refused(engine, one) == "planned"
    await engine.control.cancel(TENANT, notification_id=one)
    assert await refused(engine, one) == "finished"


async def test_cancelled_and_still_in_flight(engine: Engine) -> None:
    """Otherwise the edit would open again what somebody has cancelled."""
    cohort, [one] = await engine.planned()
    [claim] = await engine.claim(cohort)
    await engine.control.cancel(TENANT, notification_id=one)
    await engine.claims.give_back([Returned(one, claim.n, claim.attempt)])
    assert await refused(engine, one) == "cancelled"


async def test_a_claim_given_back_unsent_is_no_fence(engine: Engine) -> None:
    """And the number of its attempt is not used again: a late word about it would otherwise count for the new claim."""
    cohort, [one] = await engine.planned()
    [claim] = await engine.claim(cohort)
    await engine.claims.give_back([Returned(one, claim.n, claim.attempt)])
    assert await edit(engine, one) is not None
    again = await engine.grouped()
    await engine.plan(again)
    [new] = await engine.claim(again)
    assert new.attempt == claim.attempt + 1


async def test_two_edits_at_once(engine: Engine) -> None:
    """The second is computed again from what the first has made; otherwise it takes back what it never saw."""
    [one] = await engine.accepted()
    answers = await asyncio.gather(edit(engine, one), edit(engine, one))
    assert sorted(a.version if a else 0 for a in answers) == [0, 2]
    assert await engine.events(one) == ["edited"]


async def test_another_tenants(engine: Engine) -> None:
    [one] = await engine.accepted(tenant="other")
    with pytest.raises(NotFound):
        await edit(engine, one)


async def test_an_edit_that_waited_for_a_claim_is_refused(engine: Engine) -> None:
    """Catches: an edit that does not lock the steps. It would plan anew what is being sent in this moment."""
    _, [one] = await engine.planned()
    async with engine.pool.acquire() as claiming:
        transaction = claiming.transaction()
        await transaction.start()
        await claiming.execute("UPDATE work SET state = 1, attempt = 1, unknown_at = now() + interval '1 minute'")
        editing = asyncio.create_task(refused(engine, one))
        await done_or_blocked(engine.pool, editing)
        await transaction.commit()
    assert await editing == "handing_over"
    assert len(await engine.work(one)) == 1


async def test_a_claim_finds_nothing_while_an_edit_is_under_way(engine: Engine) -> None:
    """Catches: a claim that takes the steps from an old snapshot, and sends the old content."""
    cohort, [one] = await engine.planned()
    gate = Gate(WRITE)
    editing = asyncio.create_task(edit(engine, one, gate=gate))
    await gate.reached.wait()
    claiming = asyncio.create_task(engine.claim(cohort))
    await done_or_blocked(engine.pool, claiming)
    gate.open.set()
    assert await editing is not None
    assert await claiming == []


async def test_a_plan_that_waited_for_an_edit_plans_nothing(engine: Engine) -> None:
    """Catches: no lock in the plan's write. It puts up the steps of the old version beside the new plan."""
    [one] = await engine.accepted()
    cohort = await engine.grouped()
    gate = Gate(WRITE, after=True)
    editing = asyncio.create_task(edit(engine, one, gate=gate))
    await gate.reached.wait()
    planning = asyncio.create_task(engine.plan(cohort))
    await done_or_blocked(engine.pool, planning)
    gate.open.set()
    assert await editing is not None
    assert await planning == 0
    assert [(s["n"], s["version"]) for s in await engine.work(one)] == [(0, 2)]


async def test_an_edit_that_waited_for_the_plan_replaces_its_steps(engine: Engine) -> None:
    """Catches: an edit that looks before it locks. It finds the plan row gone and the steps not yet there; one of them is
    claimed, and planned anew while it is being sent."""
    [one] = await engine.accepted(**BOTH)
    cohort = await engine.grouped()
    entered = await engine.admission.enter(cohort, limit=10)
    assert entered is not None
    gate = Gate("WITH live", after=True)
    planner = Planner(PlanRepository(gated(engine.pool, gate)), engine.accounts)
    planning = asyncio.create_task(planner.plan(cohort, unplanned=entered.unplanned, now=entered.now))
    await gate.reached.wait()
    looked = Gate("SELECT state, attempt FROM work", after=True)
    editing = asyncio.create_task(edit(engine, one, gate=looked))
    await done_or_blocked(engine.pool, editing)
    gate.open.set()
    assert (await planning).count == 1
    await looked.reached.wait()
    assert await engine.claim(cohort) == []
    looked.open.set()
    assert await editing is not None
    assert [(s["n"], s["version"]) for s in await engine.work(one)] == [(0, 2)]


async def test_a_step_of_an_older_version_is_not_sent(engine: Engine) -> None:
    """The claim's own recheck, where everything else was circumvented."""
    cohort, _ = await engine.planned()
    await engine.pool.execute("UPDATE notification SET version = 2")
    [claim] = await engine.claim(cohort)
    assert claim.verdict is Verdict.STALE


MUTATIONS: dict[str, tuple[Swap, Any]] = {
    "edit: steps not locked": (
        Swap("edits._STEPS", " FOR UPDATE"), test_an_edit_that_waited_for_a_claim_is_refused,
    ),
    "plan: no lock": (Swap("locks._LOCK", " FOR UPDATE"), test_a_plan_that_waited_for_an_edit_plans_nothing),
    "edit: no lock against the plan": (
        Swap("edits._LOCK", " FOR UPDATE"), test_an_edit_that_waited_for_the_plan_replaces_its_steps,
    ),
    "edit: keeps the drops": (Swap("edits._CLEAR_DROPS", "= $1", "= $1 AND false"), test_what_was_planned_is_planned_anew),
    "edit: attempts begin again": (
        Swap("edits._PLAN_AGAIN", "$2, version", "$2::smallint * 0, version"), test_a_claim_given_back_unsent_is_no_fence,
    ),
    "edit: what was handed over does not matter": (Swap("edits._HANDED_OVER", "EXISTS", "NOT EXISTS"), test_the_fences),
    "claim: does not look at the version": (
        Swap("claims._CLAIM", "u.version <> n.version", "false"), test_a_step_of_an_older_version_is_not_sent,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
async def test_the_guard_fails_without_the_rule(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that the rules above are tested."""
    mutation, guard = MUTATIONS[name]
    mutation.apply(monkeypatch)
    before = asyncio.all_tasks()
    failure: BaseException | None = None
    try:
        await guard(engine)
    except (Exception, pytest.fail.Exception) as error:
        failure = error
    finally:
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await asyncio.gather(*(asyncio.all_tasks() - before), return_exceptions=True)
    assert failure is not None, "the rule was taken out and nothing failed"
    assert not isinstance(failure, asyncpg.SyntaxOrAccessError), failure
