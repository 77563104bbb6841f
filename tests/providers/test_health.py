"""What workers say of themselves, and what `GET /v1/providers/{id}/health` makes of it."""

from __future__ import annotations

import asyncio

import sandbox
from domain.ids import uuid7
from infra.postgres.account_health import AccountHealthRepository
from tests.api.conftest import Api
from tests.providers.conftest import Worker, changed, make
from workers.heartbeat import Heartbeat


def heart(worker: Worker, *, name: str) -> Heartbeat:
    repository = AccountHealthRepository(worker.engine.pool)
    return Heartbeat(worker.accounts, repository, process=uuid7(), version=lambda: worker.loader.version, name=name)


async def test_each_worker_says_how_the_account_does(api: Api, worker: Worker, box: sandbox.Box) -> None:
    account = await make(api, box, settings={"password": "not-this-one"}, rate_per_second=50)
    path = f"/v1/providers/{account}/health"
    first, second = heart(worker, name="a:1"), heart(worker, name="b:2")
    assert (await api.get(path)).json()["workers"] == []
    await first.beat()
    [one] = (await api.get(path)).json()["workers"]
    assert (one["name"], one["current"], one["circuit"]) == ("a:1", False, None), "it has not seen the account"
    await worker.loader.load()
    await worker.sent(6)
    await first.beat()
    await second.beat()
    shown = (await api.get(path, key="viewer")).json()
    assert (shown["circuit"], shown["failure"], shown["succeeded_at"]) == ("open", "CONFIG 535 5.7.8", None)
    assert [w["name"] for w in shown["workers"]] == ["a:1", "b:2"]
    assert all(w["current"] and w["retry_at"] and w["slots"] == 16 for w in shown["workers"])
    assert shown["permits"]["left"] >= 0
    await second.stop()
    assert [w["name"] for w in (await api.get(path)).json()["workers"]] == ["a:1"]


async def test_what_has_not_changed_is_not_written_again(api: Api, worker: Worker, box: sandbox.Box) -> None:
    """Catches: writes that grow with the number of accounts, or of calls, instead of with what there is to tell."""
    for n in range(5):
        await make(api, box, name=f"idle-{n}", order=5)
    used = await make(api, box, name="used")
    await worker.loader.load()
    await worker.sent(4)
    beating, pool = heart(worker, name="a:1"), worker.engine.pool
    await beating.beat()
    rows = await pool.fetch("SELECT account, xmin::text FROM account_health")
    assert [row["account"] for row in rows] == [used]
    await beating.beat()
    assert await pool.fetch("SELECT account, xmin::text FROM account_health") == rows
    await api.call("DELETE", f"/v1/providers/{used}")
    await worker.loader.load()
    await beating.beat()
    assert await pool.fetchval("SELECT count(*) FROM account_health") == 0


async def test_a_worker_that_is_silent_is_not_shown(api: Api, worker: Worker, box: sandbox.Box) -> None:
    account = await make(api, box)
    await worker.loader.load()
    await heart(worker, name="a:1").beat()
    await api.pool.execute("UPDATE worker SET at = now() - interval '1 minute'")
    assert (await api.get(f"/v1/providers/{account}/health")).json()["workers"] == []
    await api.pool.execute("UPDATE worker SET at = now() - interval '1 hour'")
    await AccountHealthRepository(api.pool).clean()
    assert await api.count("worker") == 0


async def test_a_process_takes_changes_over_by_itself(api: Api, worker: Worker, box: sandbox.Box) -> None:
    """The loops of a worker process, as it runs them."""
    beating = heart(worker, name="a:1")
    loops = [asyncio.create_task(worker.loader.run_forever()), asyncio.create_task(beating.run_forever())]
    try:
        account = await make(api, box)
        while worker.accounts.get(account) is None:  # noqa: ASYNC110 - the loop is what is tested
            await asyncio.sleep(0.05)
        await changed(api, account, {"weight": 7})
        while (found := worker.accounts.get(account)) is None or found.weight != 7:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
