"""Accept on the database: what is stored once is stored once, whoever asks how often."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from domain.ids import uuid7
from infra.postgres.accept import accepting
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.row import Row
from tests.engine.gates import done_or_blocked
from tests.engine.support import OK, TENANT, Engine, key, row, soon

PLAIN = accepting.PLAIN


async def stored(engine: Engine) -> list[UUID]:
    return [r["id"] for r in await engine.pool.fetch("SELECT id FROM notification ORDER BY id")]


async def test_a_row_has_the_fields_of_its_type(engine: Engine) -> None:
    """Catches: two fields in another order than in PostgreSQL, which would store the one as the other."""
    fields = await engine.pool.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'accept_row'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert [field["attname"] for field in fields] == list(Row._fields)


async def test_the_same_rows_again_change_nothing(engine: Engine) -> None:
    """Catches: work that is made for every row of the request. The COMMIT's answer was lost, the writer repeats it, and
    by then the first is already sent: a second work row would send it again."""
    one = row()
    assert await engine.accept.store([one]) == {one.id}
    assert await engine.accept.store([one]) == set()
    assert len(await engine.work()) == 1
    cohort = await engine.grouped()
    await engine.plan(cohort)
    await engine.answer(await engine.claim(cohort), OK)
    assert await engine.work() == []
    assert await engine.accept.store([one, row()]) != set()
    assert [r["notification_id"] == one.id for r in await engine.work()] == [False]
    assert await engine.end(one.id) == ("sent", None, True)


async def test_the_same_rows_with_their_keys_again_change_nothing(engine: Engine) -> None:
    """The same after a lost COMMIT with keys: `kept` then tells that the answer is its own."""
    one = row()
    for found in ({one.id}, set()):
        assert await engine.accept.store([one], keys=[(one.id, key("k"))]) == found
    [kept] = await engine.accept.kept([key("k")])
    assert kept is not None
    assert kept.notification_id == one.id
    assert len(await engine.work()) == 1


async def test_one_key_twice_in_one_statement(engine: Engine) -> None:
    """Two requests with one key in one group commit: one is stored, the other is told which."""
    one, two, free = row(), row(), row()
    new = await engine.accept.store([one, two, free], keys=[(one.id, key("k")), (two.id, key("k"))])
    assert new == {one.id, free.id}
    assert await stored(engine) == sorted(new)
    assert len(await engine.work()) == 2


async def test_one_key_in_two_statements(engine: Engine) -> None:
    """A repetition after the first was committed stores nothing."""
    one, two = row(), row()
    assert await engine.accept.store([one], keys=[(one.id, key("k"))]) == {one.id}
    assert await engine.accept.store([two], keys=[(two.id, key("k", body=b"other"))]) == set()
    [kept, nothing] = await engine.accept.kept([key("k"), key("unused")])
    assert kept is not None
    assert (kept.body_hash, kept.answer, kept.notification_id) == (b"body", b"answer k", one.id)
    assert nothing is None


async def test_one_key_in_two_statements_at_once(engine: Engine) -> None:
    """Catches: looking before writing. Two writers commit in the same moment; the second has to wait for the first."""
    one, two = row(), row()
    async with engine.pool.acquire() as first:
        transaction = first.transaction()
        await transaction.start()
        await first.execute(
            "INSERT INTO idempotency (tenant, app, route, key, body_hash, notification_id, answer) "
            "VALUES ($1, 'shop', 'POST /v1/notifications', 'k', 'body', $2, 'answer k')",
            TENANT, one.id,
        )  # fmt: skip
        second = asyncio.create_task(engine.accept.store([two], keys=[(two.id, key("k"))]))
        await done_or_blocked(engine.pool, second)
        assert not second.done()
        await transaction.commit()
    assert await second == set()
    assert await stored(engine) == []


async def test_writers_whose_keys_cross_do_not_deadlock(engine: Engine) -> None:
    """Caught: keys were written in the order of arrival, so that two groups of requests could wait for each other, and one
    of them got an error for no fault of its own."""
    one, two = row(), row()
    async with engine.pool.acquire() as first:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("SET LOCAL deadlock_timeout = '1min'")
        insert = (
            "INSERT INTO idempotency (tenant, app, route, key, body_hash, answer) "
            "VALUES ($1, 'shop', 'POST /v1/notifications', $2, 'body', 'answer') ON CONFLICT DO NOTHING"
        )
        await first.execute(insert, TENANT, "a")
        writing = asyncio.create_task(engine.accept.store([one, two], keys=[(one.id, key("b")), (two.id, key("a"))]))
        await done_or_blocked(engine.pool, writing)
        await first.execute(insert, TENANT, "b")
        await transaction.rollback()
    assert await writing == {one.id, two.id}


async def test_keys_of_other_tenants_are_others(engine: Engine) -> None:
    """Otherwise one company could learn, or take, what another has sent."""
    one, two = row(), row(tenant="other")
    keys = [(one.id, key("k")), (two.id, key("k", tenant="other"))]
    assert await engine.accept.store([one, two], keys=keys) == {one.id, two.id}


async def test_a_batch_with_its_key_is_stored_once_and_whole(engine: Engine) -> None:
    """Catches: a key that is written apart from its batch. After a crash half of it would be there, and never the rest."""
    rows = [row() for _ in range(450)]
    batch = key("batch")
    assert await engine.accept.store_batch(rows, key=batch)
    assert not await engine.accept.store_batch([row()], key=batch)
    assert len(await stored(engine)) == 450

    bad = [*(row() for _ in range(201)), row(tenant="\x00")]
    with pytest.raises(asyncpg.DataError):
        await engine.accept.store_batch(bad, key=key("broken"))
    assert len(await stored(engine)) == 450
    assert await AcceptRepository(engine.pool).kept([key("broken")]) == [None]


async def test_times_are_by_the_databases_clock(engine: Engine) -> None:
    """Accepted now, due now or at `send_at`, and the life counts from there."""
    now, later = row(), row(send_at=soon(3600), notification_id=uuid7())
    await engine.accept.store([now, later])
    [a, b] = [await engine.notification(r.id) for r in (now, later)]
    assert (a["status"], b["status"]) == ("accepted", "scheduled")
    assert (b["expires_at"] - b["send_at"]) == (a["expires_at"] - a["accepted_at"])
    due = {r["notification_id"]: r["due_at"] for r in await engine.work()}
    assert due == {a["id"]: a["accepted_at"], b["id"]: b["send_at"]}
