"""Accounts that are made, changed, paused and deleted by the API while messages go over them."""

from __future__ import annotations

import asyncio

import pytest

import sandbox
from channels.base import SmtpPort
from channels.registry import Wiring
from domain.channels import Channel
from domain.health import IN_A_ROW, Circuit
from domain.lanes import Lane
from domain.results import ResultClass
from infra.credentials import CredentialBox
from tests.api.conftest import OTHER, TENANT, Api
from tests.providers.conftest import PASSWORD, Worker, changed, mails, make, settings_of


async def reasons(worker: Worker, notification: object, kind: str = "failover") -> list[str]:
    found = await worker.engine.pool.fetch(
        "SELECT detail->>'reason' AS reason FROM event WHERE notification_id = $1 AND type = $2 ORDER BY at, id",
        notification, kind,
    )  # fmt: skip
    return [row["reason"] for row in found]


async def test_an_account_is_used_as_soon_as_it_is_there_and_by_its_tenant_alone(
    api: Api, worker: Worker, box: sandbox.Box
) -> None:
    """Until a tenant has one of its own, and for everybody else, the installation's is used."""
    await worker.sent()
    account = await make(api, box)
    assert await worker.loader.load() is True
    assert await worker.loader.load() is False, "nothing is read again where nothing has changed"
    [own] = await worker.sent()
    [others] = await worker.sent(tenant=OTHER)
    assert await worker.engine.end(own) == ("sent", None, True)
    assert await worker.account_of(own) == account
    assert await worker.account_of(others) == "smtp-default"
    assert (len(mails(box)), len(worker.installation.sent)) == (1, 2)


async def test_failover_goes_by_order(api: Api, worker: Worker, box: sandbox.Box, second: sandbox.Box) -> None:
    await make(api, box, name="first", settings={"password": "not-this-one"})
    standby = await make(api, second, name="second", order=1)
    await worker.loader.load()
    [one] = await worker.sent()
    assert await worker.engine.end(one) == ("sent", None, True)
    assert await worker.account_of(one) == standby
    assert await reasons(worker, one) == ["failed"]
    assert mails(box) == []


async def test_a_corrected_password_is_used_by_new_connections_and_its_circuit_starts_anew(
    api: Api, worker: Worker, box: sandbox.Box
) -> None:
    account = await make(api, box, settings={"password": "not-this-one"})
    await worker.loader.load()
    [one] = await worker.sent()
    for _ in range(4):
        await worker.engine.make_due()
        await worker.go_on()
    before = worker.accounts.get(account)
    assert before is not None
    assert before.health.circuit(worker.accounts.clock()) is Circuit.OPEN
    assert before.health.failure.startswith("CONFIG 535")
    assert (await changed(api, account, {"settings": {"password": PASSWORD}})).status_code == 200
    await worker.loader.load()
    await worker.engine.make_due()
    await worker.go_on()
    assert await worker.engine.end(one) == ("sent", None, True)


async def test_a_paused_account_is_not_chosen_and_what_waits_over_it_moves(
    api: Api, worker: Worker, box: sandbox.Box, second: sandbox.Box
) -> None:
    first, other = await make(api, box, name="first"), await make(api, second, name="second", order=1)
    await worker.loader.load()
    [waiting] = await worker.send()
    await worker.engine.plan(worker.cohort)  # type: ignore[arg-type]
    assert (await worker.engine.work(waiting))[0]["account"] == first
    assert (await api.post(f"/v1/providers/{first}/pause", key="operator")).json()["state"] == "paused"
    await worker.loader.load()
    await worker.drive()
    [new] = await worker.sent()
    for one in (waiting, new):
        assert await worker.engine.end(one) == ("sent", None, True)
        assert await worker.account_of(one) == other
    assert await reasons(worker, waiting) == ["account_paused"]
    assert await reasons(worker, new) == []


async def test_without_another_account_it_waits_says_so_once_and_goes_on_when_resumed(
    api: Api, worker: Worker, box: sandbox.Box
) -> None:
    """Not over the installation's: what a tenant sends over accounts of its own, it sends over these."""
    account = await make(api, box)
    await api.post(f"/v1/providers/{account}/pause")
    await worker.loader.load()
    ids = await worker.sent(3)
    await worker.engine.make_due()
    await worker.go_on()
    for one in ids:
        assert await worker.engine.end(one) == ("accepted", None, False)
        assert await reasons(worker, one, "put_off") == ["account_paused"]
    [other] = await worker.engine.accepted(1, tenant=OTHER)
    await worker.engine.pool.execute("UPDATE work SET due_at = now() + interval '1 hour' WHERE notification_id = $1", other)
    await api.post(f"/v1/providers/{account}/resume")
    await worker.loader.load()
    await worker.woken()
    assert {(await worker.engine.end(one))[0] for one in ids} == {"sent"}
    assert len(mails(box)) == 3
    [still] = await worker.engine.work()
    assert still["notification_id"] == other, "what waits for something else goes on waiting"


@pytest.mark.parametrize("comes", ["resumed", "made"])
@pytest.mark.parametrize("why", ["circuit", "paused"])
async def test_what_no_account_took_is_due_at_once_when_another_of_the_channel_takes_messages(
    api: Api, worker: Worker, box: sandbox.Box, second: sandbox.Box, why: str, comes: str
) -> None:
    """Catches: messages of a relay that is down, which wait for half a minute, or five, beside one that works again."""
    down = await make(api, box, name="down")
    up = await make(api, second, name="up", order=1) if comes == "resumed" else ""
    for paused in [up] * (comes == "resumed") + [down] * (why == "paused"):
        await api.post(f"/v1/providers/{paused}/pause")
    await worker.loader.load()
    ids = await worker.send(3)
    await worker.engine.plan(worker.cohort)  # type: ignore[arg-type]
    account = worker.accounts.get(down)
    assert account is not None
    for _ in range(IN_A_ROW * (why == "circuit")):
        account.health.note(ResultClass.RETRY, now_s=worker.accounts.clock(), took_s=0.1)
    await worker.drive()
    [retried] = await worker.engine.accepted(1)
    await worker.go_on()
    await worker.engine.pool.execute(
        "UPDATE work SET due_at = now() + interval '1 hour', tried = '{another}' WHERE notification_id = $1", retried
    )
    if comes == "resumed":
        await api.post(f"/v1/providers/{up}/resume")
    else:
        up = await make(api, second, name="up", order=1)
    await worker.loader.load()
    await worker.woken()
    assert [await worker.engine.end(one) for one in ids] == [("sent", None, True)] * 3
    assert {await worker.account_of(one) for one in ids} == {up}
    [still] = await worker.engine.work()
    assert still["notification_id"] == retried, "what waits for something else goes on waiting"
    shown = (await api.get(f"/v1/notifications/{ids[0]}")).json()["deliveries"]
    assert [one["attempts"] for one in shown] == [1], "looks are no attempts"


async def test_what_expires_while_its_account_is_paused_expires(api: Api, worker: Worker, box: sandbox.Box) -> None:
    """Catches: rows of a paused account that are put off past their time, or turned over without end."""
    account = await make(api, box)
    await api.post(f"/v1/providers/{account}/pause")
    await worker.loader.load()
    [one] = await worker.send()
    await worker.engine.plan(worker.cohort)  # type: ignore[arg-type]
    await worker.engine.pool.execute("UPDATE work SET expires_at = now() - interval '1 second'")
    assert await worker.drive() == {}
    assert (await worker.engine.end(one))[:2] == ("expired", "expired_before_hand_over")


async def test_what_waits_over_a_deleted_account_goes_on_over_another(
    api: Api, worker: Worker, box: sandbox.Box, second: sandbox.Box
) -> None:
    first, other = await make(api, box, name="first"), await make(api, second, name="second", order=1)
    await worker.loader.load()
    [one] = await worker.send()
    await worker.engine.plan(worker.cohort)  # type: ignore[arg-type]
    assert (await api.call("DELETE", f"/v1/providers/{first}")).status_code == 204
    await worker.loader.load()
    await worker.drive()
    assert await worker.account_of(one) == other
    assert await reasons(worker, one) == ["account_gone"]
    assert await worker.engine.pool.fetchval("SELECT count(*) FROM provider_account WHERE id = $1", first) == 0


async def test_what_was_put_off_for_an_account_goes_on_when_that_is_deleted(
    api: Api, worker: Worker, box: sandbox.Box
) -> None:
    account = await make(api, box)
    await api.post(f"/v1/providers/{account}/pause")
    await worker.loader.load()
    [one] = await worker.sent()
    await api.call("DELETE", f"/v1/providers/{account}")
    await worker.loader.load()
    await worker.woken()
    assert await worker.account_of(one) == "smtp-default"


async def test_what_is_in_flight_over_a_deleted_account_ends_as_it_would(
    api: Api, worker: Worker, box: sandbox.Box
) -> None:
    account = await make(api, box)
    await worker.loader.load()
    [one] = await worker.send(to=(Channel.EMAIL, "slow@example.com"))
    driving = asyncio.create_task(worker.drive())
    held = worker.accounts.get(account)
    assert held is not None
    while not await worker.engine.pool.fetchval("SELECT count(*) FROM work WHERE state = 1"):  # noqa: ASYNC110 - a table has no events
        await asyncio.sleep(0.01)
    assert held.in_use
    await api.call("DELETE", f"/v1/providers/{account}")
    await worker.loader.load()
    assert worker.accounts.get(account) is None
    await driving
    await worker.loader.settled()
    assert await worker.engine.end(one) == ("sent", None, True)
    assert await worker.account_of(one) == account


async def test_a_changed_rate_takes_effect_and_keeps_the_connections(api: Api, worker: Worker, box: sandbox.Box) -> None:
    account = await make(api, box)
    await worker.loader.load()
    await worker.sent(4)
    assert len(mails(box)) == 4
    before = worker.accounts.get(account)
    await changed(api, account, {"rate_per_second": 2})
    await worker.loader.load()
    after = worker.accounts.get(account)
    assert before is not None
    assert after is not None
    assert after.provider is before.provider
    assert after.health is before.health
    await worker.send(6)
    assert 0 < (await worker.drive())[account] <= 0.5
    assert len(mails(box)) == 5
    await changed(api, account, {"rate_per_second": None, "order": 3, "weight": 0, "cost": 0.5, "receipt_within": "PT5M"})
    await worker.loader.load()
    placed = worker.accounts.get(account)
    assert placed is not None
    assert placed.permits is None
    assert (placed.route.order, placed.route.weight, placed.route.cost) == (3, 0, 0.5)


async def test_a_row_that_cannot_be_read_fails_alone(
    api: Api, worker: Worker, box: sandbox.Box, second: sandbox.Box
) -> None:
    """Sealed under another key, copied from another account, not to be decoded, of a provider that nobody knows."""
    good = await make(api, second, name="good", order=9)
    pool = worker.engine.pool
    broken = [await make(api, box, name=f"broken-{n}") for n in range(4)]
    strange = CredentialBox("k" * 32).seal({"password": "x"}, tenant=TENANT, account=broken[0])
    await pool.execute("UPDATE provider_account SET sealed = $2 WHERE id = $1", broken[0], strange)
    copied = await pool.fetchval("SELECT sealed FROM provider_account WHERE id = $1", good)
    await pool.execute("UPDATE provider_account SET sealed = $2 WHERE id = $1", broken[1], copied)
    await pool.execute('UPDATE provider_account SET settings = \'{"port": "x"}\' WHERE id = $1', broken[2])
    await pool.execute("UPDATE provider_account SET provider = 'fax' WHERE id = $1", broken[3])
    await worker.loader.load()
    [one] = await worker.sent()
    assert await worker.account_of(one) == good
    shown = {one["id"]: one["problem"] for one in (await api.get("/v1/providers")).json()["items"]}
    problems = ["credentials_unreadable", "credentials_unreadable", "settings_invalid", "provider_unknown"]
    assert [shown[account] for account in broken] == problems
    assert (await api.get(f"/v1/providers/{broken[0]}")).json()["state"] == "broken"
    tried = (await api.post(f"/v1/providers/{broken[0]}/test")).json()
    assert (tried["ok"], tried["code"]) == (False, "credentials_unreadable")
    assert (await changed(api, broken[0], {"settings": settings_of(box)})).json()["state"] == "active"


async def test_nobody_sends_over_another_tenants_account(api: Api, worker: Worker, box: sandbox.Box) -> None:
    """Caught: of several tenants' rows over one account whose circuit is open, all went to where one of them may go."""
    await worker.engine.accepted(1, lane=Lane.HIGH, tenant=TENANT)
    await worker.engine.accepted(1, lane=Lane.HIGH, tenant=OTHER)
    worker.cohort = await worker.engine.grouped(Lane.HIGH)
    await worker.engine.plan(worker.cohort)
    account = await make(api, box)
    await worker.loader.load()
    shared = worker.accounts.get("smtp-default")
    assert shared is not None
    for _ in range(5):
        shared.health.note(ResultClass.RETRY, now_s=worker.accounts.clock(), took_s=0.1)
    await worker.drive()
    found = await worker.engine.pool.fetch("SELECT tenant, account FROM delivery UNION SELECT tenant, account FROM work")
    assert {row["tenant"]: row["account"] for row in found} == {TENANT: account, OTHER: "smtp-default"}
    assert len(mails(box)) == 1
    await worker.engine.pool.execute("UPDATE work SET account = $1, due_at = now()", account)
    await worker.drive()
    assert len(mails(box)) == 1, "a row that names a stranger's account leaves over none"


async def test_what_an_adapter_breaks_at_building_breaks_nobody_else(
    api: Api, worker: Worker, box: sandbox.Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(api, box)

    class Odd(Exception):
        pass

    def defect(_: object) -> SmtpPort:
        raise Odd

    monkeypatch.setattr(worker.loader._maker, "_wiring", Wiring(smtp_for=defect))
    await worker.loader.load()
    [one] = await worker.sent(tenant=OTHER)
    assert await worker.engine.end(one) == ("sent", None, True)
