"""/v1/users/{id}/inbox and /v1/inbox over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.container import open_container
from domain.errors import Unauthenticated, Unavailable
from infra.clock import ManualClock
from infra.postgres.bootstrap import bootstrap
from infra.postgres.database import Database
from infra.postgres.inbox.items import Inbox
from infra.settings import Settings
from infra.user_tokens import UserTokens
from tests.inbox.conftest import TENANT, delivered, item

SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
async def transport(settings: Settings, db: Database) -> AsyncIterator[httpx.ASGITransport]:
    async with open_container(settings) as container:
        yield httpx.ASGITransport(create_app(settings, container=container))


async def client_of(
    transport: httpx.ASGITransport, database: str, *, tenant: str, role: str = "sender"
) -> httpx.AsyncClient:
    key = await bootstrap(database, tenant=tenant, app="shop", name="tests", roles=[role])
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
async def client(transport: httpx.ASGITransport, database: str) -> httpx.AsyncClient:
    return await client_of(transport, database, tenant=TENANT)


async def bearer(client: httpx.AsyncClient, user: str = "u-1") -> dict[str, str]:
    answer = await client.post(f"/v1/users/{user}/tokens", json={"expires_in": "PT10M"})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


async def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.postgres
async def test_list_mark_and_archive_with_key_and_with_token(client: httpx.AsyncClient, db: Database) -> None:
    notification = await delivered(db, title="Hello")
    await delivered(db, title="Other")
    mine = await bearer(client)
    for base, headers in (("/v1/users/u-1/inbox", {}), ("/v1/inbox", mine)):
        page = await ok(await client.get(base, headers=headers))
        assert page["unread"] == 2
        assert [i["title"] for i in page["items"]] == ["Other", "Hello"]
        hello = page["items"][1]
        assert set(hello) == {
            "id", "notification_id", "title", "text", "url", "category", "data", "created_at", "read_at", "archived_at",
            "expires_at",
        }  # fmt: skip
        assert hello["notification_id"] == str(notification)
        read = await ok(await client.post(f"{base}/{hello['id']}/read", headers=headers))
        assert read["read_at"] is not None
        assert (await ok(await client.get(base, params={"unread": True}, headers=headers)))["unread"] == 1
        assert (await ok(await client.post(f"{base}/{hello['id']}/unread", headers=headers)))["read_at"] is None
    assert (await ok(await client.get(f"/v1/notifications/{notification}")))["status"] == "read"
    timeline = await ok(await client.get(f"/v1/notifications/{notification}/timeline"))
    assert [e["type"] for e in timeline["items"]].count("read") == 1
    assert await ok(await client.post("/v1/inbox/read-all", headers=mine)) == {"marked": 2, "unread": 0}
    await ok(await client.post(f"/v1/inbox/{hello['id']}/archive", headers=mine))
    assert [i["title"] for i in (await ok(await client.get("/v1/inbox", headers=mine)))["items"]] == ["Other"]
    archived = await ok(await client.get("/v1/inbox", params={"archived": True}, headers=mine))
    assert [i["title"] for i in archived["items"]] == ["Hello"]


@pytest.mark.postgres
async def test_pages(client: httpx.AsyncClient, inbox: Inbox) -> None:
    await inbox.store([item(str(n)) for n in range(5)])
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = await ok(await client.get("/v1/users/u-1/inbox", params=params))
        seen += [i["title"] for i in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == ["4", "3", "2", "1", "0"]
    assert (await client.get("/v1/users/u-1/inbox", params={"cursor": "bad"})).status_code == 422
    assert (await client.get("/v1/users/u-1/inbox", params={"limit": 0})).status_code == 422
    assert (await client.get("/v1/users/u-1/inbox", params={"read": 1})).status_code == 422


@pytest.mark.postgres
async def test_another_tenants_user_or_item_is_not_found(
    transport: httpx.ASGITransport, database: str, client: httpx.AsyncClient, inbox: Inbox, db: Database
) -> None:
    await db.pool.execute("INSERT INTO person (tenant, id) VALUES ('acme', 'only-here')")
    await inbox.store([item("mine")])
    shown = (await ok(await client.get("/v1/users/u-1/inbox")))["items"][0]
    other = await client_of(transport, database, tenant="other")
    assert (await other.get("/v1/users/only-here/inbox")).status_code == 404
    assert (await other.post("/v1/users/only-here/tokens")).status_code == 404
    assert (await ok(await other.get("/v1/users/u-1/inbox")))["items"] == [], "their u-1 is somebody else"
    for mark in ("read", "unread", "archive"):
        assert (await other.post(f"/v1/users/u-1/inbox/{shown['id']}/{mark}")).status_code == 404
        theirs = await bearer(client, "u-2")
        assert (await client.post(f"/v1/inbox/{shown['id']}/{mark}", headers=theirs)).status_code == 404
    assert (await client.post("/v1/users/u-1/inbox/not-an-id/read")).status_code == 404


@pytest.mark.postgres
async def test_an_erased_user_has_no_inbox(client: httpx.AsyncClient, db: Database) -> None:
    mine = await bearer(client)
    await db.pool.execute("UPDATE person SET state = 'erased' WHERE tenant = 'acme' AND id = 'u-1'")
    assert (await client.get("/v1/users/u-1/inbox")).status_code == 404
    assert (await client.get("/v1/inbox", headers=mine)).status_code == 404
    assert (await client.post("/v1/inbox/tickets", headers=mine)).status_code == 404


@pytest.mark.postgres
async def test_who_may_open_inboxes(transport: httpx.ASGITransport, database: str, client: httpx.AsyncClient) -> None:
    viewer = await client_of(transport, database, tenant=TENANT, role="viewer")
    assert (await viewer.get("/v1/users/u-1/inbox")).status_code == 200
    assert (await viewer.post("/v1/users/u-1/tokens")).status_code == 403
    assert (await viewer.post("/v1/users/u-1/inbox/read-all")).status_code == 403
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer tu_x.y"}, {"Authorization": "Basic eDp5"}):
        assert (await client.get("/v1/inbox", headers=headers)).status_code == 401
    assert (await client.get("/v1/inbox")).status_code == 401, "an API key is no user token"
    assert (await client.get("/v1/users/u-1/inbox", headers=await bearer(client))).status_code == 401


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("expires_in", "status"), [("PT24H", 201), (60, 201), ("PT25H", 422), (0, 422), (-5, 422), ("x", 422)]
)
async def test_how_long_a_token_lives(client: httpx.AsyncClient, expires_in: Any, status: int) -> None:
    answer = await client.post("/v1/users/u-1/tokens", json={"expires_in": expires_in})
    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["errors"][0]["pointer"] == "/expires_in"


@pytest.mark.postgres
async def test_pages_of_any_origin_may_ask_and_only_for_the_inbox(client: httpx.AsyncClient) -> None:
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/v1/inbox/tickets", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    refused = await client.get("/v1/inbox", headers={"Origin": "https://shop.example"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")
    assert "access-control-allow-credentials" not in refused.headers
    for path in ("/v1/users/u-1/inbox", "/v1/notifications", "/v1/inboxes"):
        assert "access-control-allow-origin" not in (await client.get(path, headers=asked)).headers


@given(st.text(min_size=1, max_size=50), st.text(min_size=1, max_size=200))
def test_a_token_names_whom_it_was_made_for(tenant: str, user: str) -> None:
    tokens = UserTokens("k" * 32)
    read = tokens.read(tokens.issue(tenant, user, expires_at=SOON))
    assert (read.tenant, read.user_id) == (tenant, user)


@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject) -> None:
    tokens = UserTokens("k" * 32)
    good = tokens.issue("acme", "u-1", expires_at=SOON)
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + data.draw(st.characters().filter(lambda c: c != good[at])) + good[at + 1 :]
    with pytest.raises(Unauthenticated):
        tokens.read(changed)


@given(st.text())
def test_no_text_is_a_token_by_chance(text: str) -> None:
    for candidate in (text, f"tu_{text}", f"tu_{text}.{text}"):
        with pytest.raises(Unauthenticated):
            UserTokens("k" * 32).read(candidate)


def test_a_token_is_good_until_its_end_and_no_longer() -> None:
    clock = ManualClock()
    tokens = UserTokens("k" * 32, clock=clock)
    ends = (clock.now() + timedelta(hours=1)).replace(microsecond=0)
    token = tokens.issue("acme", "u-1", expires_at=ends)
    clock.set(ends - timedelta(microseconds=1))
    assert tokens.read(token).user_id == "u-1"
    clock.set(ends)
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.read(token)


def test_a_token_outlives_the_key_it_was_made_under_while_that_is_named() -> None:
    token = UserTokens("a" * 32).issue("acme", "u-1", expires_at=SOON)
    rotated = UserTokens("b" * 32, others=["a" * 32])
    assert rotated.read(token).user_id == "u-1"
    assert UserTokens("b" * 32).read(rotated.issue("acme", "u-2", expires_at=SOON)).user_id == "u-2", (
        "made under the new one"
    )
    with pytest.raises(Unavailable):
        UserTokens("", others=["a" * 32]).read(token)


def test_another_installations_token_is_refused_and_without_a_secret_there_are_none() -> None:
    token = UserTokens("a" * 32).issue("acme", "u-1", expires_at=SOON)
    with pytest.raises(Unauthenticated):
        UserTokens("b" * 32).read(token)
    with pytest.raises(Unavailable):
        UserTokens("").issue("acme", "u-1", expires_at=SOON)
    with pytest.raises(Unavailable):
        UserTokens("").read(token)
