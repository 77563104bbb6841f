"""The live stream over HTTP: tickets, resuming, races of commit order, shutting down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from api import sse
from api.routes import inbox_stream
from channels.base import Recall
from domain.channels import Channel
from infra.postgres.bootstrap import bootstrap
from infra.postgres.database import Database
from infra.postgres.inbox.items import Inbox
from infra.settings import Settings
from tests.inbox.conftest import TENANT, delivered, item
from tests.inbox.server import RunningApi, open_stream, running

pytestmark = pytest.mark.postgres


@pytest.fixture
async def api(settings: Settings, db: Database) -> AsyncIterator[RunningApi]:
    async with running(settings) as server:
        yield server


@pytest.fixture
async def client(api: RunningApi, database: str) -> AsyncIterator[httpx.AsyncClient]:
    key = await bootstrap(database, tenant=TENANT, app="shop", name="tests", roles=["sender"])
    async with httpx.AsyncClient(base_url=api.url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as opened:
        yield opened


async def token(client: httpx.AsyncClient, *, user: str = "u-1") -> dict[str, str]:
    """Headers of the user."""
    answer = await client.post(f"/v1/users/{user}/tokens")
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


async def ticket(client: httpx.AsyncClient, *, user: str = "u-1") -> str:
    answer = await client.post("/v1/inbox/tickets", headers=await token(client, user=user))
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["ticket"]
    return made


async def test_a_message_appears_while_looking(
    api: RunningApi, client: httpx.AsyncClient, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not when it is next polled: here that is in a day. (What polling is for, tests/inbox/test_feed.py has.)"""
    monkeypatch.setattr(api.container.inbox.feed, "_poll_s", 86_400.0)
    await inbox.store([item("before")])
    async with open_stream(client, ticket=await ticket(client)) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["x-accel-buffering"] == "no"
        assert stream.response.headers["access-control-allow-origin"] == "*"
        await inbox.store([item("now")])
        name, shown = await stream.next()
        assert (name, shown["title"], shown["read_at"]) == ("item", "now", None)
    listed = (await client.get("/v1/users/u-1/inbox")).json()
    assert [i["title"] for i in listed["items"]] == ["now", "before"]
    assert {i["id"]: i for i in listed["items"]}[shown["id"]] == shown, "list and stream show the same item"


async def test_the_earlier_insert_that_commits_later_and_a_reconnect_in_between(
    client: httpx.AsyncClient, inbox: Inbox, database: str
) -> None:
    insert = """INSERT INTO inbox_item (id, tenant, user_id, notification_id, n, title, text, category, expires_at)
                VALUES (gen_random_uuid(), $1, 'u-1', gen_random_uuid(), 1, $2, '', '', now() + interval '1 day')"""
    connection = await asyncpg.connect(database)
    async with open_stream(client, ticket=await ticket(client)) as stream:
        running_one = connection.transaction()
        await running_one.start()
        await connection.execute(insert, TENANT, "one")
        await inbox.store([item("two")])
        assert await stream.titles(1) == ["two"]
        position = stream.last_id
    await inbox.store([item("away")])
    async with open_stream(client, ticket=await ticket(client), last_event_id=position) as stream:
        assert await stream.titles(1) == ["away"]
        await running_one.commit()
        assert await stream.titles(1) == ["one"]
        position = stream.last_id
    assert position is not None
    async with open_stream(client, ticket=await ticket(client), headers={"Last-Event-ID": position}) as stream:
        await inbox.store([item("last")])
        assert await stream.titles(1) == ["last"]
    await connection.close()


async def test_reading_on_one_device_shows_on_the_other(client: httpx.AsyncClient, db: Database) -> None:
    await delivered(db, title="Hello")
    mine = await token(client)
    shown = (await client.get("/v1/inbox", headers=mine)).json()["items"][0]
    async with open_stream(client, ticket=await ticket(client)) as stream:
        answer = await client.post(f"/v1/inbox/{shown['id']}/read", headers=mine)
        assert answer.json()["read_at"] is not None
        assert await stream.next() == ("item", answer.json())
        await client.post(f"/v1/inbox/{shown['id']}/archive", headers=mine)
        assert (await stream.next())[1]["archived_at"] is not None


async def test_what_is_recalled_vanishes_from_live_streams(client: httpx.AsyncClient, db: Database, inbox: Inbox) -> None:
    notification = await delivered(db, title="Hello")
    [shown] = (await client.get("/v1/users/u-1/inbox")).json()["items"]
    async with open_stream(client, ticket=await ticket(client)) as stream:
        position = stream.last_id
        await inbox.recall([Recall(notification, 1, TENANT, Channel.INAPP, "u-1")])
        assert await stream.next() == ("recalled", {"id": shown["id"], "notification_id": str(notification)})
    async with open_stream(client, ticket=await ticket(client), last_event_id=position) as stream:
        assert (await stream.next())[0] == "recalled", "also whoever was away"
    assert (await client.get("/v1/users/u-1/inbox")).json()["items"] == []


async def test_a_position_that_cannot_be_continued_asks_for_the_list(client: httpx.AsyncClient) -> None:
    async with open_stream(client, ticket=await ticket(client), last_event_id="9000000000:9000000000:") as stream:
        assert await stream.next() == ("resync", {})


async def test_a_ticket_is_good_once_and_for_a_moment(client: httpx.AsyncClient, db: Database) -> None:
    made = await ticket(client)
    async with open_stream(client, ticket=made):
        pass
    for bad in (made, "nonsense", ""):
        answer = await client.get("/v1/inbox/stream", params={"ticket": bad})
        assert (answer.status_code, answer.json()["code"]) == (401, "ticket_invalid")
        assert answer.headers["access-control-allow-origin"] == "*"
    late = await ticket(client)
    await db.pool.execute("UPDATE inbox_ticket SET expires_at = now() - interval '1 second'")
    assert (await client.get("/v1/inbox/stream", params={"ticket": late})).status_code == 401
    assert await db.pool.fetchval("SELECT count(*) FROM inbox_ticket") == 0


async def test_only_one_of_two_simultaneous_uses_of_a_ticket_wins(client: httpx.AsyncClient) -> None:
    made = await ticket(client)

    async def use() -> int:
        async with client.stream("GET", "/v1/inbox/stream", params={"ticket": made}) as response:
            return response.status_code

    assert sorted(await asyncio.gather(*(use() for _ in range(4)))) == [200, 401, 401, 401]


async def test_a_client_that_can_send_headers_needs_no_ticket(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/v1/inbox/stream", headers=await token(client)) as response:
        assert response.status_code == 200
    assert (await client.get("/v1/inbox/stream")).status_code == 401, "an API key is no user token"


async def test_heartbeats_keep_the_connection_and_move_the_position(
    client: httpx.AsyncClient, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_stream, "HEARTBEAT_S", 0.2)
    async with client.stream("GET", "/v1/inbox/stream", params={"ticket": await ticket(client)}) as response:
        seen: list[str] = []
        async with asyncio.timeout(30):
            async for line in response.aiter_lines():
                seen.append(line)
                if seen.count(": heartbeat") == 2:
                    break
    assert "retry: 3000" in seen


async def test_streams_end_when_the_server_stops(api: RunningApi, client: httpx.AsyncClient) -> None:
    """Catches: streams that a stopping server has to cut off when its patience is over. This one has patience for ever."""
    api.server.config.timeout_graceful_shutdown = None
    async with open_stream(client, ticket=await ticket(client)) as stream:
        stopping = asyncio.create_task(api.stop())
        with pytest.raises(StopAsyncIteration):
            await stream.next()
        await stopping


async def test_a_reader_who_leaves_or_stops_reading_frees_its_place(
    api: RunningApi, client: httpx.AsyncClient, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "SEND_TIMEOUT_S", 0.5)
    feed = api.container.inbox.feed
    async with open_stream(client, ticket=await ticket(client)):
        assert feed.streams == 1
    await eventually(lambda: feed.streams == 0)

    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /v1/inbox/stream?ticket={await ticket(client)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await eventually(lambda: feed.streams == 1)
    for _ in range(40):
        if feed.streams == 0:
            break
        await inbox.store([item("x" * 200_000) for _ in range(3)])
        await asyncio.sleep(0.1)
    await eventually(lambda: feed.streams == 0)
    writer.transport.abort()
    del reader


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in the server
            await asyncio.sleep(0.05)


async def test_many_streams_hold_no_database_connections(api: RunningApi, client: httpx.AsyncClient, inbox: Inbox) -> None:
    made = [await ticket(client, user=f"u-{n % 2 + 1}") for n in range(60)]
    async with httpx.AsyncClient(base_url=api.url, timeout=20, limits=httpx.Limits(max_connections=None)) as other:

        async def follow(number: int) -> str:
            async with open_stream(other, ticket=made[number]) as stream:
                ready.append(number)
                return (await stream.titles(1))[0]

        ready: list[int] = []
        followers = [asyncio.create_task(follow(n)) for n in range(60)]
        await eventually(lambda: len(ready) == 60)
        pool = api.container.database.pool
        assert pool.get_size() - pool.get_idle_size() <= 2
        await inbox.store([item("for one"), item("for two", user="u-2")])
        assert await asyncio.gather(*followers) == ["for one", "for two"] * 30


async def test_an_expired_token_is_refused(api: RunningApi, client: httpx.AsyncClient) -> None:
    expired = api.container.inbox.tokens.issue(TENANT, "u-1", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    answer = await client.post("/v1/inbox/tickets", headers={"Authorization": f"Bearer {expired}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
