"""What workers say of themselves, and what `GET /v1/providers/{id}/health` makes of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from prometheus_client import REGISTRY

import sandbox
from activities.accounts.account import Account
from domain.channels import Channel
from domain.health import IN_A_ROW, Circuit
from domain.ids import uuid7
from domain.refusal import IN_A_ROW as REFUSED_IN_A_ROW
from domain.results import ResultClass
from infra.postgres.engine.parked import ParkedRepository
from infra.postgres.tenants.account_health import AccountHealthRepository, AccountState
from tests.api.conftest import Api
from tests.providers.conftest import PASSWORD, Worker, changed, make
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


async def test_an_account_that_its_provider_refuses_says_so_until_it_is_changed(
    api: Api, worker: Worker, box: sandbox.Box
) -> None:
    """Catches: wrong credentials that show nowhere but in a breaker, which says the same of a server that is down."""
    account = await make(api, box, settings={"password": "not-this-one"})
    beating = heart(worker, name="a:1")
    await worker.loader.load()
    waiting = await worker.sent(REFUSED_IN_A_ROW + 3)
    await beating.beat()
    shown = (await api.get(f"/v1/providers/{account}")).json()
    assert (shown["state"], shown["problem"]) == ("refused", "refused_by_provider")
    assert shown["failure"] == "CONFIG 535 5.7.8"
    listed = {one["id"]: one["state"] for one in (await api.get("/v1/providers")).json()["items"]}
    assert listed.pop(account) == "refused"
    assert set(listed.values()) == {"active"}
    assert (await api.get(f"/v1/providers/{account}/health")).json()["state"] == "refused"
    assert REGISTRY.get_sample_value(*figure(account)) == 1
    assert len(await worker.engine.work()) == len(waiting), "all of it waits"
    await changed(api, account, {"settings": {"password": PASSWORD}})
    await worker.loader.load()
    await beating.beat()
    shown = (await api.get(f"/v1/providers/{account}")).json()
    assert (shown["state"], shown["problem"], shown["failure"]) == ("active", None, None)
    assert REGISTRY.get_sample_value(*figure(account)) is None
    await worker.engine.pool.execute("UPDATE work SET due_at = now()")
    await worker.go_on()
    assert {await worker.account_of(one) for one in waiting} == {account}
    assert await worker.engine.work() == []


async def test_another_account_takes_what_a_refused_one_cannot(
    api: Api, worker: Worker, box: sandbox.Box, second: sandbox.Box
) -> None:
    await make(api, box, settings={"password": "not-this-one"})
    standby = await make(api, second, name="standby", order=1)
    await worker.loader.load()
    sent = await worker.sent(REFUSED_IN_A_ROW + 3)
    assert {await worker.account_of(one) for one in sent} == {standby}


def figure(account: str) -> tuple[str, dict[str, str]]:
    return "tongda_account_refused", {"channel": "email", "account": account}


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


async def test_a_circuit_that_is_open_here_alone_is_probed_at_once_and_what_waits_is_due(
    api: Api, worker: Worker, box: sandbox.Box
) -> None:
    """Catches: a message that waits for half a minute in a process whose circuit is open, while another one sends."""
    account_id = await make(api, box)
    await worker.loader.load()
    account = opened(worker, account_id)
    [one] = await worker.sent()
    assert (await worker.engine.end(one))[0] == "accepted"
    pool, other = worker.engine.pool, uuid7()
    repository = AccountHealthRepository(pool)
    own = Heartbeat(worker.accounts, repository, process=uuid7(), version=lambda: 1, wake=ParkedRepository(pool).wake)

    async def elsewhere(circuit: str, *, succeeded_ago: timedelta) -> Circuit:
        await works_elsewhere(repository, account_id, circuit, process=other, succeeded_ago=succeeded_ago)
        await own.beat()
        return account.health.circuit(worker.accounts.clock())

    assert await elsewhere("closed", succeeded_ago=timedelta(minutes=5)) is Circuit.OPEN, "from before"
    assert await elsewhere("open", succeeded_ago=timedelta(0)) is Circuit.OPEN
    assert await elsewhere("closed", succeeded_ago=timedelta(0)) is Circuit.HALF_OPEN
    await own.settled()
    await worker.woken()
    assert await worker.engine.end(one) == ("sent", None, True)
    assert account.health.circuit(worker.accounts.clock()) is Circuit.CLOSED


async def test_a_beat_waits_for_no_walk_over_what_waits(api: Api, worker: Worker, box: sandbox.Box) -> None:
    """Caught: a process that was counted as dead while it looked through a backlog."""
    account_id = await make(api, box)
    await worker.loader.load()
    opened(worker, account_id)
    pool, begun, never = worker.engine.pool, list[str | None](), asyncio.Event()
    repository = AccountHealthRepository(pool)

    async def wake(channel: Channel, *, tenant: str | None) -> None:
        begun.append(tenant)
        await never.wait()

    own = Heartbeat(worker.accounts, repository, process=uuid7(), version=lambda: 1, wake=wake)
    await works_elsewhere(repository, account_id)
    async with asyncio.timeout(20):
        await own.beat()
        await own.beat()
    await asyncio.sleep(0)
    assert len(begun) == 1
    await own.stop()


def opened(worker: Worker, account_id: str) -> Account:
    """Its circuit is open here, for an hour."""
    account = worker.accounts.get(account_id)
    assert account is not None
    now_s = worker.accounts.clock()
    for _ in range(IN_A_ROW):
        account.health.remember(ResultClass.RETRY, "451", now_s=now_s)
        account.health.note(ResultClass.RETRY, now_s=now_s, took_s=0.1)
    account.health._open_until_s = now_s + 3600
    return account


async def works_elsewhere(
    repository: AccountHealthRepository,
    account_id: str,
    circuit: str = "closed",
    *,
    process: UUID | None = None,
    succeeded_ago: timedelta = timedelta(0),
) -> None:
    """Another process says so of the account."""
    process = process or uuid7()
    state = AccountState(account_id, circuit, None, 0.0, 0, 4, succeeded_ago, None, None, None)
    await repository.sign(process, name="b:2", accounts_version=1)
    await repository.write(process, states=[state])
