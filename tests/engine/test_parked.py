"""What waits for an account is made due when one takes it, and nothing else is."""

from __future__ import annotations

from uuid import UUID

import pytest

from domain.channels import Channel
from infra.postgres.engine import parked
from infra.postgres.engine.parked import ParkedRepository
from tests.engine.support import Engine
from tests.engine.test_held_locks import either, held, in_haste

EMAIL = Channel.EMAIL


async def waiting(engine: Engine, count: int, *, tried: list[str] | None, tenant: str = "t") -> set[UUID]:
    """So many planned steps over account `a`, which wait for an hour."""
    ids = await engine.accepted(count, tenant=tenant)
    cohort = await engine.grouped()
    await engine.plan(cohort)
    await engine.pool.execute(
        "UPDATE work SET account = 'a', tried = $2, due_at = now() + interval '1 hour', cohort = NULL"
        " WHERE notification_id = ANY ($1::uuid[])", ids, tried,
    )  # fmt: skip
    return set(ids)


async def due(engine: Engine) -> set[UUID]:
    return {row["notification_id"] for row in await engine.pool.fetch("SELECT * FROM work WHERE due_at <= now()")}


async def test_what_waits_is_found_in_pages_among_what_does_not(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a page in which nothing waits that ends the walk, and a mark that the index leaves out."""
    monkeypatch.setattr(parked, "PAGE", 2)
    stopped = await waiting(engine, 3, tried=["a"])
    await waiting(engine, 5, tried=["b"])
    nobody = await waiting(engine, 3, tried=["b", "*"])
    await waiting(engine, 2, tried=None)
    await waiting(engine, 2, tried=[])
    others = await waiting(engine, 2, tried=["*"], tenant="u")
    wake = ParkedRepository(engine.pool).wake
    assert await wake(Channel.WEBHOOK, tenant=None) == 0
    assert await wake(EMAIL, tenant="t") == 6
    assert await due(engine) == stopped | nobody
    assert await wake(EMAIL, tenant=None) == 2
    assert await due(engine) == stopped | nobody | others


@either
async def test_one_that_somebody_keeps_locked_is_left_out(engine: Engine, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Caught: a lock that nobody let go ended the walk, and all that came after it waited on."""
    monkeypatch.setattr(parked, "PAGE", 2)
    engine = in_haste(engine)
    waits = await waiting(engine, 6, tried=["*"])
    async with held(engine, min(waits), by=by):
        assert await ParkedRepository(engine.pool).wake(EMAIL, tenant=None) == 5
    assert await due(engine) == waits - {min(waits)}
