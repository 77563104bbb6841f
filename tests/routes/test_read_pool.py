"""Lists may read a replica; what follows a write reads the primary. The replica here stopped before the writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from infra.postgres.database import Database
from tests.api.conftest import TENANT, Api, make_keys, running, settings_for
from tests.routes.conftest import Ids, filled, one_of_each
from tests.routes.test_generated import operations

LISTS = {"/v1/notifications", "/v1/users", "/v1/templates", "/v1/api-keys", "/v1/preferences/stats"}
"""The only routes that may be behind."""
WRITABLE = {"default_transaction_read_only": "off"}


@pytest.fixture
async def stale(database: str, module_database: str) -> AsyncIterator[Api]:
    """An API whose replica has the schema and nothing else, and takes no writes."""
    connection = await asyncpg.connect(module_database, server_settings=WRITABLE)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await connection.close()
    async with running(database, read=module_database) as made:
        made.keys = await make_keys(database)
        yield made


@pytest.fixture
async def ids(stale: Api) -> Ids:
    return await one_of_each(stale)


def reads(api: Api) -> list[str]:
    document: dict[str, Any] = api.front.fastapi.openapi()
    return [path for method, path, _ in operations(document) if method == "GET"]


async def misrouted(api: Api, ids: Ids) -> list[str]:
    """Reads by an id that do not see what has just been written."""
    answers = {path: await api.get(filled(path, ids)) for path in reads(api) if "{" in path}
    return [path for path, answer in answers.items() if answer.status_code != 200]


async def test_every_read_by_an_id_sees_what_was_just_written(stale: Api, ids: Ids) -> None:
    assert await misrouted(stale, ids) == []
    identities = (await stale.get("/v1/users/u-acme/identities")).json()["items"]
    preferences = (await stale.get("/v1/users/u-acme/preferences")).json()
    assert preferences["channels"] == {"email": False}
    versions = (await stale.get("/v1/templates/t-acme/versions")).json()["items"]
    assert [len(identities), len(versions)] == [1, 1]


async def test_a_misrouted_read_would_be_found(stale: Api, ids: Ids) -> None:
    """The same with routes that are given the replica: the test above is not blind."""
    stale.container.database = stale.container.database.lists
    found = set(await misrouted(stale, ids))
    by_id = {"/v1/notifications/{notification_id}", "/v1/notifications/{notification_id}/timeline"}
    by_id |= {"/v1/users/{user_id}", "/v1/templates/{name}", "/v1/api-keys/{key_id}"}
    assert by_id <= found


async def test_only_the_long_lists_may_be_behind(stale: Api, ids: Ids) -> None:
    behind: set[str] = set()
    for path in reads(stale):
        if "{" not in path:
            answer = await stale.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            shown = answer.json()
            behind |= set() if shown.get("items") or shown.get("users") or shown.get("id") else {path}
    assert behind == LISTS


async def test_writes_and_what_they_check_are_the_primarys(stale: Api) -> None:
    user = {"id": "u-1", "identities": [{"channel": "email", "address": "fang@example.com"}]}
    assert (await stale.post("/v1/users", user)).status_code == 201
    assert (await stale.post("/v1/users", user)).status_code == 409
    made = await stale.post("/v1/notifications", {"to": {"user": "u-1"}, "channels": ["email"], "content": {"text": "x"}})
    assert made.status_code == 202
    path = f"/v1/notifications/{made.json()['id']}"
    for read in (path, f"{path}/timeline"):
        assert (await stale.get(read)).status_code == 200
    assert (await stale.post(f"{path}/cancel")).json()["result"] == "cancelled"
    assert (await stale.get(path)).json()["status"] == "cancelled"


async def test_a_list_comes_from_the_replica(database: str, module_database: str) -> None:
    """What only the replica knows, the list shows, and reading by id does not."""
    connection = await asyncpg.connect(module_database, server_settings=WRITABLE)
    await connection.execute("INSERT INTO tenant (id, name) VALUES ($1, 'x')", TENANT)
    await connection.execute("INSERT INTO person (tenant, id) VALUES ($1, 'u-old')", TENANT)
    try:
        async with running(database, read=module_database) as api:
            api.keys = await make_keys(database)
            assert [user["id"] for user in (await api.get("/v1/users")).json()["items"]] == ["u-old"]
            assert (await api.get("/v1/users/u-old")).status_code == 404
    finally:
        await connection.execute("DELETE FROM person")
        await connection.execute("DELETE FROM tenant")
        await connection.close()


async def test_a_replica_that_is_away_takes_only_lists_with_it(database: str) -> None:
    away = "postgresql://tongda@127.0.0.1:9/tongda"
    async with running(database, read=away) as api:
        api.keys = await make_keys(database)
        assert (await api.get("/v1/users")).status_code == 503
        assert (await api.get("/readyz")).status_code == 200
        assert (await api.post("/v1/users", {"id": "u-1"})).status_code == 201
        assert (await api.get("/v1/users/u-1")).status_code == 200


@pytest.mark.parametrize("same", [True, False])
async def test_nothing_more_is_opened_without_another_url(database: str, same: bool) -> None:  # noqa: FBT001
    opened = await Database.open(settings_for(database, read=database if same else ""), name="test", with_replica=True)
    try:
        assert opened.replica is None
        assert opened.lists is opened
    finally:
        await opened.close()
