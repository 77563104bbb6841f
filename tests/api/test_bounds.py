"""A database that stands still: everybody is told in time, at most so many wait, and what was refused is not done later."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from starlette.types import Receive, Scope, Send

from api import gate
from api.accept import batch, collecting, kept, recipients, service
from infra.postgres import database as connections
from infra.postgres.database import Database
from infra.postgres.deadline import deadline
from infra.postgres.users.recipients import RecipientRepository
from tests.api.conftest import Api, Way, at_once, make_keys, running

MANY = 40
"""Requests: more than a process has connections."""
HUNG_S = 20.0
"""Where nothing bounds them they wait for one another's statements, 10 s each."""
MAIL = {"to": {"email": "fang@example.com"}, "content": {"title": "x", "text": "x"}}
REPEAT = {**MAIL, "to": {"user": "u-1"}, "channels": ["email"], "dedupe": {"window": "PT1H"}}
USER = {**MAIL, "to": {"user": "u-1"}, "channels": ["email"]}


@pytest.fixture
async def way(database: str) -> AsyncIterator[Way]:
    made = Way(database)
    await made.open()
    yield made
    made.thaw()
    await made.cut()


@pytest.fixture
async def api(database: str, way: Way, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Over a way that can freeze; its limits are short."""
    monkeypatch.setattr(connections, "CONNECTION_WITHIN_S", 0.5)
    monkeypatch.setattr(gate, "BOUNDS", tuple(gate.Bound(b.path, b.most, 1.0) for b in gate.BOUNDS))
    monkeypatch.setattr(batch, "STORED_WITHIN_S", 1.0)
    monkeypatch.setattr(batch, "STATEMENT_LIMIT_S", 1.0)
    monkeypatch.setattr(collecting, "COLLECTED_WITHIN_S", 1.0)
    monkeypatch.setattr(kept, "STATEMENT_LIMIT_S", 1.0)
    keys = await make_keys(database)
    async with running(way.url) as made:
        made.keys = keys
        await made.pool.execute(
            "INSERT INTO person (tenant, id, state) SELECT 'acme', 'u-' || n, 'active' FROM generate_series(0, $1::int) n",
            MANY,
        )
        await made.pool.execute(
            "INSERT INTO identity (id, tenant, person_id, channel, address) "
            "SELECT gen_random_uuid(), tenant, id, 'email', id || '@example.com' FROM person"
        )
        yield made
        way.thaw()


Call = Callable[[Api, int, dict[str, Any]], Any]
CALLS: dict[str, Call] = {
    "a code": lambda api, n, _: api.post("/v1/otp", {"to": {"email": f"u{n}@example.com"}}),
    "a user's code": lambda api, n, _: api.post("/v1/otp", {"to": {"user": f"u-{n}"}}),
    "a user": lambda api, n, _: api.post("/v1/users", {"id": f"new-{n}"}),
    "a guess": lambda api, _, made: api.post(f"/v1/otp/{made['id']}/verify", {"code": "000000"}),
    "a code again": lambda api, _, made: api.post(f"/v1/otp/{made['id']}/resend"),
    "a repeat": lambda api, _, __: api.post("/v1/notifications", REPEAT),
    "a batch": lambda api, _, __: api.post("/v1/notifications/batch", {"notifications": [MAIL]}),
    "a batch against repeats": lambda api, _, __: api.post("/v1/notifications/batch", {"notifications": [MAIL, REPEAT]}),
    "a refusal with a key": lambda api, n, _: api.post("/v1/notifications", {"to": {"email": "no"}}, once=f"refused-{n}"),
    "a refused user with a key": lambda api, n, _: api.post("/v1/users", {"id": "no/id"}, once=f"refused-{n}"),
    "a list": lambda api, _, __: api.get("/v1/notifications"),
    "a retry": lambda api, _, __: api.post("/v1/notifications/retry", {"status": "failed"}),
    "a cancellation": lambda api, _, made: api.post(f"/v1/notifications/{made['notification_id']}/cancel"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_who_asks_a_frozen_database_is_told_in_time_and_what_never_began_is_not_done_later(
    api: Api, way: Way, name: str
) -> None:
    """Catches: a wait for a connection, or for a turn, that ends when the database goes on: callers pile up behind it, have
    long gone, and what they asked for is done all the same."""
    made = (await api.post("/v1/otp", {"to": {"email": "fang@example.com"}})).json()
    for body in (USER, REPEAT):  # keys and users are known
        answer = await api.post("/v1/notifications", body)
        assert answer.status_code == 202, answer.text
    before = await api.count("notification")
    way.freeze()
    async with asyncio.timeout(HUNG_S):
        answers = await at_once(CALLS[name](api, n, made) for n in range(MANY))
    assert {a.status_code for a in answers} == {503}
    assert {a.json()["code"] for a in answers} <= {"unavailable", "overloaded"}
    assert all(a.headers["retry-after"] for a in answers)
    way.thaw()
    await asyncio.sleep(1.0)
    assert (await api.post("/v1/notifications", USER)).status_code == 202
    stored = await api.count("notification") - before - 1
    assert stored <= api.container.settings.database_pool, "only what was at the database already"


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("a code", (gate, "BOUNDS", tuple(gate.Bound(b.path, 0, b.limit_s) for b in gate.BOUNDS))),
        ("a batch", (batch, "MOST_UNDER_WAY", 0)),
        ("a batch against repeats", (batch, "MOST_UNDER_WAY", 0)),
    ],
)
async def test_a_full_queue_refuses_at_once(
    api: Api, name: str, bound: tuple[Any, str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*bound)
    answer = await CALLS[name](api, 1, {})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"]
    assert await api.count("notification") == 0


async def test_what_has_to_be_looked_up_first_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_LOOKING", 0)
    answer = await api.post("/v1/notifications", USER)
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")


async def test_one_kind_of_route_takes_no_place_from_another(api: Api, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that hang leave room for codes; and what was given up is counted until it has ended."""
    monkeypatch.setattr(gate, "BOUNDS", tuple(gate.Bound(b.path, 2, 30.0) for b in gate.BOUNDS))
    lists: list[asyncio.Task[httpx.Response]] = []
    way.freeze()
    lists += [asyncio.create_task(api.get("/v1/notifications")) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert (await api.get("/v1/notifications")).json()["code"] == "overloaded"
    code = asyncio.create_task(api.post("/v1/otp", {"to": {"email": "fang@example.com"}}))
    await asyncio.sleep(0.1)
    way.thaw()
    assert (await code).status_code == 202
    assert {a.status_code for a in await asyncio.gather(*lists)} == {200}
    assert (await api.get("/v1/notifications")).status_code == 200


@pytest.mark.parametrize(("name", "table"), [("a user's code", "otp"), ("a user", "person")])
async def test_what_was_given_up_takes_no_further_step(
    api: Api, way: Way, name: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: a request that was told 503 at its first question and then goes on to its COMMIT. All who asked for codes
    waited for the same question (is this user there), and all were sent one when the database went on."""
    call = CALLS[name]
    await at_once(api.get("/v1/users") for _ in range(MANY))  # its connections are there: they are asked whether they live
    before = await api.count(table)
    way.freeze()
    answers = await at_once(call(api, n, {}) for n in range(MANY // 4))
    assert {a.status_code for a in answers} == {503}
    way.thaw()
    await asyncio.sleep(1.0)
    assert await api.count(table) == before
    await _goes_on(lambda: call(api, MANY, {}), monkeypatch)


async def test_who_has_given_up_is_not_asked_for_later(api: Api, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: questions that wait behind one that hangs, and are asked however long ago their callers left."""
    monkeypatch.setattr(recipients, "STATEMENT_LIMIT_S", 0.3)
    asked, looking = list[str](), asyncio.Event()
    states = RecipientRepository.states

    async def noted(self: RecipientRepository, users: Sequence[tuple[str, str]]) -> list[str | None]:
        asked.extend(user for _, user in users)
        looking.set()
        return await states(self, users)

    monkeypatch.setattr(RecipientRepository, "states", noted)
    assert (await api.get("/v1/users")).status_code == 200  # its key is known
    way.freeze()
    codes = [asyncio.create_task(CALLS["a user's code"](api, 0, {}))]
    await looking.wait()
    codes += [asyncio.create_task(CALLS["a user's code"](api, n, {})) for n in range(1, 4)]
    assert {(await code).status_code for code in codes} == {503}
    way.thaw()
    monkeypatch.setattr(recipients, "STATEMENT_LIMIT_S", HUNG_S)
    await _goes_on(lambda: CALLS["a user's code"](api, 9, {}), monkeypatch)
    assert set(asked) == {"u-0", "u-9"}


async def _goes_on(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is at the moment."""
    monkeypatch.setattr(gate, "BOUNDS", tuple(gate.Bound(b.path, b.most, HUNG_S) for b in gate.BOUNDS))
    for _ in range(100):
        answer = await call()
        if answer.status_code != 503:
            break
        await asyncio.sleep(0.1)
    assert answer.status_code in {201, 202}, answer.text


async def test_a_stream_goes_on_past_the_limit(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: the time for the head of an answer held against what follows it."""

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": str(await api.pool.fetchval("SELECT 7")).encode()})

    monkeypatch.setattr(gate, "BOUNDS", (gate.Bound(re.compile(".*"), 1, 0.1),))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gate.Gate(app)), base_url="http://test") as http:
        assert (await http.get("/")).text == "7"


async def test_what_many_share_is_not_ended_by_whoever_began_it(api: Api, way: Way) -> None:
    """Catches: a question that many wait for, given up with the first of them."""
    routes = api.container.accept.routes
    way.freeze()
    with deadline(0.05):
        first = asyncio.create_task(routes.of("acme"))
    second = asyncio.create_task(routes.of("acme"))
    await asyncio.sleep(0.1)
    way.thaw()
    assert await first == await second


async def test_no_connection_is_given_out_past_the_deadline(api: Api) -> None:
    """Neither of the pool's nor of the engine's; and those who come later have them all."""
    database = api.container.database
    with deadline(0.0):
        for _ in range(MANY):
            with pytest.raises(TimeoutError):
                await database.pool.fetchval("SELECT 1")
            with pytest.raises(TimeoutError):
                async with database.engine.connect():
                    pass
    async with contextlib.AsyncExitStack() as held:
        for _ in range(2 * connections.ENGINE_CONNECTIONS):
            await held.enter_async_context(database.engine.connect())
        waiting = asyncio.create_task(_briefly(database))
        await asyncio.sleep(0.2)
    with pytest.raises(TimeoutError):
        await waiting
    async with database.engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


async def _briefly(database: Database) -> None:
    with deadline(0.1):
        async with database.engine.connect():
            pass
