"""A request that was accepted gets its answer again by its key, also when its rules would refuse it by now."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.line import Line
from infra.clock import ManualClock
from infra.postgres.accept.accepting import AcceptRepository, Kept
from infra.postgres.accept.row import Row
from infra.postgres.bootstrap import bootstrap
from tests.accept.conftest import Api, body
from tests.accept.test_changes import TEMPLATE

BATCH = "/v1/notifications/batch"
LATER = timedelta(minutes=10)
USER = {"user": "u-1"}
GONE = "UPDATE person SET state = 'erased' WHERE id = 'u-1'"


def replayed(first: httpx.Response, again: httpx.Response) -> None:
    assert (first.status_code, again.status_code) == (202, 200), again.text
    assert again.content == first.content
    assert again.headers["idempotent-replay"] == "true"
    assert again.headers.get("location") == first.headers.get("location")


def short(clock: ManualClock, **changes: Any) -> dict[str, Any]:
    """A notification that is refused after LATER."""
    return body(expires_at=(clock.now() + LATER / 2).isoformat(), **changes)


async def published(api: Api) -> None:
    assert (await api.post(TEMPLATE, path="/v1/templates")).status_code == 201
    assert (await api.post(None, path="/v1/templates/order/publish")).status_code == 200


async def passed(api: Api) -> None:
    """Nothing but the time."""


async def user_gone(api: Api) -> None:
    await api.pool.execute(GONE)


async def archived(api: Api) -> None:
    assert (await api.http.delete("/v1/templates/order")).status_code == 204


async def needs_more(api: Api) -> None:
    """A new version of the template has another variable."""
    text = {"type": "string"}
    variables = {"type": "object", "required": ["order", "shop"], "properties": {"order": text, "shop": text}}
    version = {"variables": variables, "contents": TEMPLATE["contents"], "example_data": {"order": "A", "shop": "x"}}
    added = await api.post(version, path="/v1/templates/order/versions")
    assert added.status_code == 201, added.text
    published = await api.post({"version": added.json()["version"]}, path="/v1/templates/order/publish")
    assert published.status_code == 200, published.text


REFUSED: dict[str, tuple[dict[str, Any], Callable[[Api], Awaitable[None]], str]] = {
    "expired": ({}, passed, "/expires_at"),
    "user gone": ({"to": USER}, user_gone, "/to/user"),
    "template archived": ({"content": None, "template": "order", "data": {"order": "A"}}, archived, "/template"),
    "template changed": ({"content": None, "template": "order", "data": {"order": "A"}}, needs_more, "/data/shop"),
    "against repeats": ({"to": USER, "dedupe": {"window": 60}}, user_gone, "/to/user"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_was_accepted_is_answered_so_whatever_happened_since(timed: Api, clock: ManualClock, name: str) -> None:
    changes, happen, pointer = REFUSED[name]
    await published(timed)
    what = short(clock, **changes) if happen is passed else body(**changes)
    first = await timed.post(what, key="k")
    await happen(timed)
    clock.advance(LATER)
    refused = await timed.post(what)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    replayed(first, await timed.post(what, key="k"))
    other = await timed.post({**what, "priority": "high"}, key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    new = await timed.post(what, key="new")
    assert (new.status_code, new.json()) == (422, refused.json())
    assert await timed.count() == await timed.count("idempotency") == 1


async def test_a_refusal_takes_no_key(api: Api) -> None:
    assert (await api.post(body(to={"email": "no"}), key="k")).status_code == 422
    assert await api.count("idempotency") == 0
    assert (await api.post(body(), key="k")).status_code == 202


async def test_a_key_of_another_app_or_tenant_says_nothing(timed: Api, clock: ManualClock, database: str) -> None:
    what = short(clock)
    assert (await timed.post(what, key="k")).status_code == 202
    clock.advance(LATER)
    for tenant, app in (("acme", "crm"), ("globex", "shop")):
        key = await bootstrap(database, tenant=tenant, app=app, name="other", roles=["sender"])
        headers = {"Idempotency-Key": "k", "Authorization": f"Bearer {key}"}
        answer = await timed.http.post("/v1/notifications", json=what, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_a_batch_of_which_items_would_be_refused_now(timed: Api, clock: ManualClock) -> None:
    """Also where nothing of it would be accepted any more."""
    for key, items in (("some", [body(), short(clock), body(to=USER)]), ("all", [short(clock), body(to=USER)])):
        await timed.pool.execute("UPDATE person SET state = 'active' WHERE id = 'u-1'")
        first = await timed.post({"notifications": items}, path=BATCH, key=key)
        assert first.json()["rejected"] == 0
        await user_gone(timed)
        clock.advance(LATER)
        replayed(first, await timed.post({"notifications": items}, path=BATCH, key=key))
        other = await timed.post({"notifications": [*items, body()]}, path=BATCH, key=key)
        assert other.status_code == 409
        unread = await timed.post({"notifications": items, "more": 1}, path=BATCH, key=key)
        assert unread.status_code == 409
        clock.set(clock.now() - LATER)
    assert await timed.count() == 5


@pytest.mark.parametrize("change", [GONE, "DELETE FROM notification WHERE origin IS NULL"])
async def test_a_resend_whose_user_or_notification_is_gone(timed: Api, clock: ManualClock, change: str) -> None:
    one = (await timed.post(body(to=USER))).json()["id"]
    await timed.pool.execute("DELETE FROM work")
    await timed.pool.execute("UPDATE notification SET status = 'failed', final = true, finished_at = now()")
    path = f"/v1/notifications/{one}/resend"
    first = await timed.post(b"", path=path, key="k")
    await timed.pool.execute(change)
    clock.advance(LATER)
    replayed(first, await timed.post(b"", path=path, key="k"))
    assert (await timed.post(b"{}", path=path, key="k")).status_code == 409
    assert (await timed.post(b"", path=path, key="new")).status_code in (404, 422)


async def test_the_first_one_still_waits_for_its_commit(
    timed: Api, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gave up early: what is on its way in this process decides, not what is stored by then."""
    store, reached, going = AcceptRepository.store, asyncio.Event(), asyncio.Event()

    async def slow(self: AcceptRepository, rows: Sequence[Row], **how: Any) -> set[UUID]:
        reached.set()
        await going.wait()
        return await store(self, rows, **how)

    monkeypatch.setattr(AcceptRepository, "store", slow)
    what = short(clock)
    first = asyncio.create_task(timed.post(what, key="k"))
    await reached.wait()
    clock.advance(LATER)
    again = asyncio.create_task(timed.post(what, key="k"))
    await asyncio.sleep(0.2)
    early = again.done()
    going.set()
    assert not early
    replayed(await first, await again)


@pytest.mark.parametrize("committed", [True, False])
async def test_the_first_one_is_being_stored_by_another_process(timed: Api, clock: ManualClock, *, committed: bool) -> None:
    what, answer = short(clock), b'{"id":"01a20a32-744b-7020-809a-bb07e52cad04","status":"accepted","lane":"medium"}'
    raw = httpx.Request("POST", "http://test", json=what).content
    clock.advance(LATER)
    async with timed.pool.acquire() as elsewhere:
        taking = elsewhere.transaction()
        await taking.start()
        await elsewhere.execute(
            "INSERT INTO idempotency (tenant, app, route, key, body_hash, answer) VALUES ('acme', 'shop', $1, 'k', $2, $3)",
            "POST /v1/notifications", hashlib.sha256(raw).digest(), answer,
        )  # fmt: skip
        again = asyncio.create_task(timed.post(raw, key="k"))
        await asyncio.sleep(0.2)
        assert not again.done()
        await (taking.commit() if committed else taking.rollback())
    found = await again
    if committed:
        assert (found.status_code, found.content) == (200, answer)
    else:
        assert (found.status_code, found.json()["code"]) == (422, "invalid")


async def test_where_the_database_does_not_say_nothing_final_is_said(
    timed: Api, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> list[Kept | None]:
        raise ConnectionRefusedError

    what = short(clock)
    first = await timed.post(what, key="k")
    clock.advance(LATER)
    monkeypatch.setattr(AcceptRepository, "kept", away)
    for key in ("k", "new"):
        answer = await timed.post(what, key=key)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
    assert (await timed.post(what)).status_code == 422, "without a key there is nothing to ask"
    monkeypatch.undo()
    replayed(first, await timed.post(what, key="k"))


@pytest.fixture
async def globex(database: str, api: Api) -> dict[str, str]:
    """Headers of another tenant."""
    key = await bootstrap(database, tenant="globex", app="shop", name="other", roles=["owner"])
    return {"Authorization": f"Bearer {key}"}


async def test_one_tenants_storm_of_refusals_refuses_nothing_of_another(
    api: Api, globex: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look-up of the storm waits, as for another process that is just taking its key."""
    kept = api.container.accept.kept
    monkeypatch.setattr(kept, "_line", Line(at_once=3, most=40, of_one=2))
    bad, good = body(to={"email": "no"}), body()
    first = await api.http.post("/v1/notifications", json=good, headers={**globex, "Idempotency-Key": "k"})
    async with api.pool.acquire() as elsewhere:
        taking = elsewhere.transaction()
        await taking.start()
        await elsewhere.execute(
            "INSERT INTO idempotency (tenant, app, route, key, body_hash, answer) "
            "VALUES ('acme', 'shop', 'POST /v1/notifications', 'taken', '', '')"
        )
        storm = [asyncio.create_task(api.post(bad, key="taken")) for n in range(60)]
        done, _ = await asyncio.wait(storm, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().json()["code"] for task in done} == {"overloaded"}
        for n in range(5):
            headers = {**globex, "Idempotency-Key": f"new-{n}"}
            refused = await api.http.post("/v1/notifications", json=bad, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
        assert (await api.post(good, key="k")).status_code == 202, "who is accepted does not stand in that line"
        await taking.rollback()
    codes = [(await task).json()["code"] for task in storm]
    assert (codes.count("overloaded"), codes.count("invalid")) == (40, 20)
    again = await api.http.post("/v1/notifications", json=good, headers={**globex, "Idempotency-Key": "k"})
    replayed(first, again)
    assert [*kept._line._inside, *kept._line._waiting] == []


async def test_all_who_wait_for_one_commit_are_answered_after_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: look-ups that wait for a COMMIT in their turn, so that under load so few are made for each COMMIT; and a
    chain of those who wait for one COMMIT, which grew with them until it broke."""
    store, commits = AcceptRepository.store, asyncio.Semaphore(0)

    async def slow(self: AcceptRepository, rows: Sequence[Row], **how: Any) -> set[UUID]:
        await commits.acquire()
        return await store(self, rows, **how)

    monkeypatch.setattr(AcceptRepository, "store", slow)
    bad = body(to={"email": "no"})
    first = asyncio.create_task(api.post(body()))
    await asyncio.sleep(0.1)
    refused = [asyncio.create_task(api.post(bad, key=f"k-{n}")) for n in range(300)]
    await asyncio.sleep(0.5)
    last = asyncio.create_task(api.post(body()))
    await asyncio.sleep(0.1)
    commits.release()
    answers = await asyncio.gather(*refused)
    assert {answer.json()["code"] for answer in answers} == {"invalid"}
    assert ((await first).status_code, last.done()) == (202, False)
    commits.release()
    assert (await last).status_code == 202
