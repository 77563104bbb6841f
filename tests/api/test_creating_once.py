"""Idempotency-Key on creating requests off the hot path."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api, at_once, codes


async def test_the_same_request_again_gets_the_same_answer(api: Api) -> None:
    body = {"id": "u-1", "name": "first"}
    first = await api.post("/v1/users", body, once="k")
    again = await api.post("/v1/users", body, once="k")
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.content, again.headers["location"]) == (first.content, first.headers["location"])
    assert again.headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in first.headers


async def test_another_body_is_a_conflict(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"}, once="k")
    other = await api.post("/v1/users", {"id": "u-2"}, once="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert await api.count("person") == 1


async def test_many_at_once_create_one(api: Api) -> None:
    answers = await at_once(api.post("/v1/users", {"id": "u-1"}, once="k") for _ in range(12))
    assert sorted(a.status_code for a in answers) == [200] * 11 + [201]
    assert len({a.content for a in answers}) == 1


async def test_many_at_once_without_a_key_create_one(api: Api) -> None:
    answers = await at_once(api.post("/v1/users", {"id": "u-1"}) for _ in range(8))
    assert sorted(a.status_code for a in answers) == [201] + [409] * 7


async def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    refused = await api.post("/v1/users", {"id": "u-1"}, once="k")
    assert refused.status_code == 409
    assert (await api.post("/v1/users", {"id": "u-2"}, once="k")).status_code == 201


async def test_scope_is_tenant_app_and_path(api: Api) -> None:
    for user in ("u-1", "u-2"):
        assert (await api.post("/v1/users", {"id": user})).status_code == 201
        added = await api.post(f"/v1/users/{user}/identities", {"channel": "push", "address": "d"}, once="k")
        assert added.status_code == 201
    assert (await api.post("/v1/apps", {"id": "crm", "name": "CRM"}, once="k")).status_code == 201
    key = (await api.post("/v1/api-keys", {"name": "k", "app": "crm", "roles": ["owner"]})).json()["key"]
    conflict = await api.post("/v1/apps", {"id": "erp", "name": "ERP"}, once="k")
    assert conflict.status_code == 409
    assert (await api.post("/v1/apps", {"id": "erp", "name": "ERP"}, once="k", key=key)).status_code == 201


async def test_a_key_is_kept_thirty_days(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"}, once="k")
    await api.pool.execute("UPDATE idempotency SET created_at = now() - interval '31 days'")
    assert (await api.post("/v1/users", {"id": "u-2"}, once="k")).status_code == 201
    replay = await api.post("/v1/users", {"id": "u-2"}, once="k")
    assert (replay.status_code, replay.json()["id"]) == (200, "u-2")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_keys_that_are_none(shared_api: Api, key: str) -> None:
    answer = await shared_api.post("/v1/users", {"id": "u-1"}, once=key)
    assert (answer.status_code, codes(answer)) == (422, [("Idempotency-Key", "format")])
    assert "header" in answer.json()["errors"][0]
    assert await shared_api.count("person") == 0
