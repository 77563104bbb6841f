"""Entries of timelines: ids whose order is their time, whoever writes them, and none twice."""

from __future__ import annotations

from domain.timeline import EventType
from infra.postgres.engine.timeline import Entry, TimelineEvent, write_events
from tests.engine.support import Engine


async def test_what_moves_to_another_account_is_told_in_the_order_of_time(engine: Engine) -> None:
    """Caught: random ids, which stand anywhere among those of the same moment."""
    cohort, ids = await engine.planned(3)
    await engine.claims.queue.move(cohort, account="memory-email", to="b", detail={"account": "b"})
    for one in ids:
        assert await engine.events(one) == ["planned", "failover"], "in the order of their ids"
        assert await engine.detail(one, "failover") == {"account": "b"}
    rows = await engine.pool.fetch("SELECT id, cohort, epoch, n FROM event WHERE type = 'failover'")
    assert {row["id"].version for row in rows} == {7}
    assert {(row["cohort"], row["epoch"], row["n"]) for row in rows} == {(cohort.id, cohort.epoch, 1)}


async def test_the_same_entry_is_written_once(engine: Engine) -> None:
    _, [one] = await engine.planned()
    entry = Entry(one, 0, TimelineEvent(EventType.ERASED, {}))
    async with engine.pool.acquire() as connection:
        for _ in range(2):
            await write_events(connection, [entry])
        await write_events(connection, [])
    assert await engine.events(one) == ["planned", "erased"]
    assert await engine.pool.fetchval("SELECT detail IS NULL FROM event WHERE type = 'erased'")
