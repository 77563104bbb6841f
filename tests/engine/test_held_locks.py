"""A session that keeps a notification locked and stands still: a frozen process, a lost machine, an operator's psql. The
others' notifications are not its business."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from activities.handing_over.losses import Losses, record_lost
from activities.recording.group_commit import GroupCommit
from activities.recording.outcomes import LockedForTooLong, OutcomeWriter
from activities.recording.patience import patiently
from api.accept.writer import CommitWriter
from domain.channels import Channel
from domain.errors import Unavailable
from domain.lanes import Lane
from infra.clock import SYSTEM_CLOCK
from infra.postgres.accept.accepting import Key, keep_key
from infra.postgres.database import GUARDS, Database
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.locks import REMEMBERED_S, Connection, Held, HeldLately, lock_notifications, over_free, retried
from infra.postgres.errors import is_away
from infra.settings import Settings
from tests.engine.driving import BrokenContents, activities, drive, handed_over
from tests.engine.gates import hasty
from tests.engine.support import LOST, TENANT, Engine, row


def in_haste(engine: Engine) -> Engine:
    """As in production, but that nobody waits for a lock for long, and no session stands still for long."""
    return Engine.over(hasty(engine.pool))


@contextlib.asynccontextmanager
async def held(
    engine: Engine, notification: UUID, *, by: str = "SELECT FROM notification WHERE id = $1 FOR UPDATE"
) -> AsyncIterator[None]:
    """Somebody keeps it locked, whose session nobody ends."""
    async with engine.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(by, notification)
        yield
        await transaction.rollback()


WAYS = (
    "SELECT FROM notification WHERE id = $1 FOR UPDATE",
    "UPDATE work SET faults = faults WHERE notification_id = $1",
)
either = pytest.mark.parametrize("by", WAYS, ids=["the notification", "its step"])
"""An operator by hand locks what he changes, and not what we lock first."""


async def test_every_connection_has_the_guards(module_database: str) -> None:
    database = await Database.open(Settings(database_url=SecretStr(module_database)), name="test")
    try:
        async with database.engine.connect() as connection:
            by_engine = {name: (await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in GUARDS}
        by_pool = {name: await database.pool.fetchval(f"SHOW {name}") for name in GUARDS}
    finally:
        await database.close()
    assert by_pool == by_engine == {"lock_timeout": "2s", "idle_in_transaction_session_timeout": "5s"}


async def test_a_session_that_stands_still_is_ended_and_what_it_did_can_be_repeated(engine: Engine) -> None:
    """Caught: a process that was frozen in the middle of a transaction held its locks until it went on."""
    engine = in_haste(engine)
    [one] = await engine.accepted()
    turns = 0

    async def unit(connection: Connection) -> None:
        nonlocal turns
        turns += 1
        await lock_notifications(connection, [one])
        if turns == 1:
            await asyncio.sleep(1.0)  # frozen
        await connection.execute("UPDATE notification SET cancelled_at = now() WHERE id = $1", one)

    frozen = asyncio.create_task(patiently(lambda: retried(engine.pool, unit)))
    await asyncio.sleep(0.7)
    async with asyncio.timeout(0.3):
        await retried(engine.pool, lambda connection: lock_notifications(connection, [one]))
    await frozen
    assert turns == 2


async def test_the_error_of_an_ended_session_is_an_outage(engine: Engine) -> None:
    engine = in_haste(engine)

    async def stands_still() -> None:
        async with engine.pool.acquire() as connection, connection.transaction():
            await asyncio.sleep(0.7)
            await connection.fetchval("SELECT 1")

    [ended] = await asyncio.gather(stands_still(), return_exceptions=True)
    assert isinstance(ended, Exception)
    assert is_away(ended)


@either
async def test_outcomes_of_others_are_recorded(engine: Engine, by: str) -> None:
    """Caught: all of a flush waited for the one, failed with it, and was tried again with it."""
    engine = in_haste(engine)
    cohort, [stuck, *others] = await engine.planned(3)
    outcomes = [engine.answered(claim) for claim in await engine.claim(cohort)]
    async with held(engine, stuck, by=by):
        with pytest.raises(Held) as error:
            await engine.flush(*outcomes)
        assert error.value.ids == {stuck}
        assert [await engine.end(i) for i in others] == [("sent", None, True)] * 2
    await engine.flush(*outcomes)
    assert await engine.end(stuck) == ("sent", None, True)


async def test_what_was_held_is_not_waited_for_again(engine: Engine) -> None:
    """Otherwise each flush of the process would wait as long as anybody waits for a lock."""
    engine = in_haste(engine)
    [stuck, other] = await engine.accepted(2)
    lately, waits = HeldLately(), 0

    async def unit(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
        nonlocal waits
        waits += stuck in ids
        await lock_notifications(connection, ids)
        return list(ids)

    async with held(engine, stuck):
        for _ in range(3):
            assert await over_free(engine.pool, [stuck, other], unit, lately=lately) == ([[other]], frozenset({stuck}))
    assert waits == 1


def test_a_held_lock_is_remembered_for_a_while() -> None:
    now_s, one = 0.0, UUID(int=1)
    lately = HeldLately(clock_s=lambda: now_s)
    assert lately.of([one]) == set()
    lately.note([one])
    now_s = REMEMBERED_S - 1
    assert lately.of([UUID(int=2), one]) == {one}
    assert lately.of([UUID(int=2)]) == set()
    now_s = REMEMBERED_S
    assert lately.of([one]) == set()


async def test_what_is_gone_is_held_by_nobody(engine: Engine) -> None:
    engine = in_haste(engine)
    [one] = await engine.accepted()
    gone, lately = UUID(int=0), HeldLately()
    lately.note([gone])

    async def unit(_: Connection, ids: Sequence[UUID]) -> list[UUID]:
        return list(ids)

    assert await over_free(engine.pool, [gone, one], unit, lately=lately) == ([[one], [gone]], frozenset())


async def test_callers_of_a_group_commit_learn_each_of_its_own(engine: Engine) -> None:
    engine = in_haste(engine)
    cohort, [stuck, *_] = await engine.planned(3)
    outcomes = [engine.answered(claim) for claim in await engine.claim(cohort)]
    group = GroupCommit(engine.outcomes)
    async with held(engine, stuck):
        told = await asyncio.gather(*(group.flush([o], now_s=0.0) for o in outcomes), return_exceptions=True)
    assert [type(t) for t in told].count(Held) == 1
    assert isinstance(told[[o.claim.notification_id for o in outcomes].index(stuck)], Held)


async def test_a_writer_goes_on_with_the_others_and_brings_it_home_later(engine: Engine) -> None:
    """Caught: what came after it waited behind it, until others called it lost and sent it again."""
    engine = in_haste(engine)
    cohort, [stuck, *others] = await engine.planned(3)
    claims = sorted(await engine.claim(cohort), key=lambda c: c.notification_id != stuck)
    writer = OutcomeWriter(engine.outcomes, in_flight=lambda: 0)
    async with held(engine, stuck):
        writer.put(engine.answered(claims[0]))
        await asyncio.sleep(0.3)
        for claim in claims[1:]:
            writer.put(engine.answered(claim))
        async with asyncio.timeout(10):
            while [await engine.end(i) for i in others] != [("sent", None, True)] * 2:  # noqa: ASYNC110 - no event of ours
                await asyncio.sleep(0.05)
        assert [o.claim.notification_id for o in writer.held()] == [stuck]
        assert writer.written == 2
    await writer.close()
    assert await engine.end(stuck) == ("sent", None, True)
    assert writer.written == 3


async def test_a_writer_does_not_wait_for_a_lock_without_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's session may stand open over a weekend; then the activity fails, and what is held is called lost."""
    engine = in_haste(engine)
    monkeypatch.setattr("activities.recording.outcomes.HELD_FOR_S", 0.2)
    cohort, [stuck] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    writer = OutcomeWriter(engine.outcomes, in_flight=lambda: 0)
    async with held(engine, stuck):
        writer.put(engine.answered(claim))
        async with asyncio.timeout(10):
            with pytest.raises(LockedForTooLong):
                await writer.close()


@either
async def test_others_are_planned_and_sent(engine: Engine, by: str) -> None:
    """Caught: of a cohort nothing was planned while one of its notifications was locked."""
    engine = in_haste(engine)
    [stuck, *others] = await engine.accepted(5, lane=Lane.HIGH)
    cohort = await engine.grouped(Lane.HIGH)
    async with held(engine, stuck, by=by):
        async with asyncio.timeout(10):
            await ActivityEnvironment().run(activities(engine).deliver, drive(cohort))
        assert len(engine.providers[Channel.EMAIL].sent) == 4
        [waiting] = await engine.work()
        assert (waiting["notification_id"], waiting["faults"]) == (stuck, 0)
        assert waiting["cohort"] is None or by != WAYS[0]
    await engine.pool.execute("UPDATE work SET due_at = now()")
    again = await engine.cohorts.group(Lane.HIGH) or cohort
    await ActivityEnvironment().run(activities(engine).deliver, drive(again))
    assert len(engine.providers[Channel.EMAIL].sent) == 5
    assert {(await engine.end(i))[0] for i in (stuck, *others)} == {"sent"}


@either
async def test_others_go_back_unsent(engine: Engine, by: str) -> None:
    engine = in_haste(engine)
    cohort, [stuck, *others] = await engine.planned(3)
    back = [Returned(c.notification_id, c.n, c.attempt) for c in await engine.claim(cohort)]
    async with held(engine, stuck, by=by):
        with pytest.raises(Held):
            await engine.claims.give_back(back)
        assert {row["notification_id"] for row in await engine.work() if row["state"] == 0} == set(others)
    await engine.claims.give_back(back)
    assert {row["state"] for row in await engine.work()} == {0}


async def test_others_that_are_lost_are_called_lost(engine: Engine) -> None:
    """Caught: the sweep takes those of all cohorts in one flush; one locked row, and no loss of any tenant was recorded."""
    engine = in_haste(engine)
    cohort, [stuck, *others] = await engine.planned(3)
    assumed = [engine.answered(claim, LOST) for claim in await engine.claim(cohort)]
    async with held(engine, stuck):
        assert (
            await record_lost(engine.outcomes, assumed, losses=Losses(engine.claims, engine.accounts, clock=SYSTEM_CLOCK))
            == 2
        )
        assert [(await engine.end(i))[0] for i in others] == ["unknown"] * 2


async def test_whoever_asks_the_api_waits_no_longer(engine: Engine) -> None:
    """Two seconds, and then it is told; six times as long before."""
    engine = in_haste(engine)
    [one] = await engine.accepted()
    async with held(engine, one):
        began_s = time.monotonic()
        with pytest.raises(asyncpg.LockNotAvailableError):
            await engine.control.cancel("acme", notification_id=one)
        assert time.monotonic() - began_s < 5


async def test_a_writer_settles_without_what_is_locked(engine: Engine) -> None:
    """Caught: whoever waited for the others to be written waited for the one, in the middle of its claims."""
    engine = in_haste(engine)
    cohort, [stuck, other] = await engine.planned(2)
    claims = {claim.notification_id: claim for claim in await engine.claim(cohort)}
    writer = OutcomeWriter(engine.outcomes, in_flight=lambda: 0)
    async with held(engine, stuck):
        for notification in (stuck, other):
            writer.put(engine.answered(claims[notification]))
        async with asyncio.timeout(10):
            await writer.settle()
        assert [o.claim.notification_id for o in writer.held()] == [stuck]
    await writer.close()
    assert await engine.end(stuck) == ("sent", None, True)


async def test_windows_of_others_close(engine: Engine) -> None:
    """Caught: the sweep takes the oldest of all tenants; one locked, and nothing became final any more."""
    engine = in_haste(engine)
    cohort, [stuck, *_] = await engine.planned(3)
    await engine.flush(*(engine.answered(claim) for claim in await engine.claim(cohort)))
    await engine.pool.execute("UPDATE delivery SET receipt_until = now() - interval '1 second'")
    async with held(engine, stuck):
        await engine.receipts.close(limit=200)
        open_ = await engine.pool.fetch("SELECT notification_id FROM delivery WHERE receipt_until IS NOT NULL")
    assert [row["notification_id"] for row in open_] == [stuck]


async def test_others_are_accepted_beside_a_key_that_is_taken(engine: Engine) -> None:
    """Caught: somebody who had taken a key stood still, and whoever was committed beside its repeat was refused."""
    engine = in_haste(engine)
    told: dict[str, object] = {}
    rows = {name: row() for name in ("repeat", "other")}
    taken = Key(TENANT, "shop", "POST /v1/notifications", "k", b"hash", b"{}")
    async with engine.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await keep_key(connection, taken)
        writer = CommitWriter(engine.accept, committed=lambda _: None, name="test")
        writer.put(rows["repeat"], key=taken, told=partial(told.__setitem__, "repeat"))
        writer.put(rows["other"], key=None, told=partial(told.__setitem__, "other"))
        async with asyncio.timeout(10):
            await writer.stop()
        await transaction.rollback()
    assert isinstance(told["repeat"], Unavailable)
    assert told["other"] is None


async def test_what_leaves_an_account_that_is_gone_leaves_it_without_what_is_locked(engine: Engine) -> None:
    """Caught: 64 at a time were claimed and waited for, and behind the one that was locked the rest stayed due."""
    engine = in_haste(engine)
    cohort, ids = await engine.planned(70)
    await engine.pool.execute("UPDATE work SET account = 'gone'")
    async with held(engine, min(ids)):
        task = asyncio.create_task(ActivityEnvironment().run(activities(engine).deliver, drive(cohort)))
        async with asyncio.timeout(20):
            while len(engine.providers[Channel.EMAIL].sent) < 69:  # noqa: ASYNC110 - no event of ours
                await asyncio.sleep(0.05)
    await task
    assert len(engine.providers[Channel.EMAIL].sent) == 70
    assert await engine.work() == []


async def test_content_that_waits_for_a_lock_is_no_fault_of_ours(engine: Engine) -> None:
    """Caught: an item of a digest was locked while it was rendered, three times; then all of it was quarantined."""
    cohort, [one] = await engine.planned(1)
    contents = BrokenContents(lambda claim: asyncpg.LockNotAvailableError("locked") if claim.attempt < 5 else None)
    for _ in range(6):
        await engine.pool.execute("UPDATE work SET due_at = now()")
        await handed_over(engine, cohort, engine.accounts, contents=contents)
    assert await engine.end(one) == ("sent", None, True)
