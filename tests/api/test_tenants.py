"""What belongs to another tenant is not there: 404, and never a hint."""

from __future__ import annotations

from tests.api.conftest import OTHER, TENANT, Api, insert_notification


async def test_other_tenants_ids_are_not_found(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1", "identities": [{"channel": "email", "address": "a@example.com"}]})
    identity = (await api.get("/v1/users/u-1/identities")).json()["items"][0]["id"]
    key = (await api.post("/v1/api-keys", {"name": "k", "app": "shop", "roles": ["sender"]})).json()["id"]
    await api.post("/v1/apps", {"id": "only-acme", "name": "x"})
    notification = await insert_notification(api.pool)
    calls = [
        ("GET", "/v1/users/u-1"), ("PATCH", "/v1/users/u-1"), ("DELETE", "/v1/users/u-1"),
        ("GET", "/v1/users/u-1/identities"), ("PATCH", f"/v1/users/u-1/identities/{identity}"),
        ("DELETE", f"/v1/users/u-1/identities/{identity}"), ("GET", f"/v1/api-keys/{key}"),
        ("DELETE", f"/v1/api-keys/{key}"), ("POST", f"/v1/api-keys/{key}/rotate"), ("GET", "/v1/apps/only-acme"),
        ("GET", f"/v1/notifications/{notification}"), ("GET", f"/v1/notifications/{notification}/timeline"),
        ("POST", f"/v1/notifications/{notification}/cancel"), ("GET", "/v1/users/u-1/inbox"),
    ]  # fmt: skip
    for method, path in calls:
        answer = await api.call(method, path, key="other", json={} if method in {"PATCH", "POST"} else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), f"{method} {path}"
    assert (await api.get("/v1/users/u-1")).json()["state"] == "active"
    assert (await api.get(f"/v1/api-keys/{key}")).json()["state"] == "active"
    assert (await api.get(f"/v1/notifications/{notification}")).json()["status"] == "accepted"


async def test_lists_hold_only_ones_own(api: Api) -> None:
    for tenant in (TENANT, OTHER):
        await insert_notification(api.pool, tenant=tenant)
        await api.pool.execute("INSERT INTO person (tenant, id) VALUES ($1, $2)", tenant, f"u-{tenant}")
    for path, other in (("/v1/notifications", 1), ("/v1/users", 1), ("/v1/apps", 1), ("/v1/api-keys", 1)):
        items = (await api.get(path, key="other")).json()["items"]
        assert len(items) == other, path
    assert [u["id"] for u in (await api.get("/v1/users")).json()["items"]] == [f"u-{TENANT}"]


async def test_the_same_ids_and_keys_live_side_by_side(api: Api) -> None:
    for key in ("owner", "other"):
        answer = await api.post("/v1/users", {"id": "u-1", "name": key}, once="same-key", key=key)
        assert answer.status_code == 201
    assert (await api.get("/v1/users/u-1", key="other")).json()["name"] == "other"
