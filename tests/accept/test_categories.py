"""Categories: kept by operators, followed by what names no channels."""

from __future__ import annotations

from typing import Any

import pytest

from tests.accept.conftest import Api, body

ORDERS: dict[str, Any] = {"name": "orders", "channels": ["email", "inapp"], "strategy": "fallback"}


async def create(api: Api, **changes: Any) -> Any:
    return await api.post({**ORDERS, **changes}, path="/v1/categories")


async def sent(api: Api, **changes: Any) -> dict[str, Any]:
    answer = await api.post(body(**{"to": {"user": "u-1"}, "category": "orders", **changes}))
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = (await api.http.get(answer.headers["location"])).json()
    return found


async def test_its_life(api: Api) -> None:
    made = await create(api)
    assert (made.status_code, made.headers["location"]) == (201, "/v1/categories/orders"), made.text
    assert (await create(api)).json()["code"] == "category_exists"
    assert (await create(api, name="alerts")).status_code == 201
    first = (await api.http.get("/v1/categories?limit=1")).json()
    assert [c["name"] for c in first["items"]] == ["alerts"]
    second = (await api.http.get("/v1/categories", params={"cursor": first["next_cursor"]})).json()
    assert ([c["name"] for c in second["items"]], second["next_cursor"]) == (["orders"], None)
    changed = await api.http.patch("/v1/categories/orders", json={"mandatory": True})
    assert (changed.json()["mandatory"], changed.json()["strategy"]) == (True, "fallback")
    assert (await api.http.delete("/v1/categories/orders")).status_code == 204
    assert (await api.http.get("/v1/categories/orders")).status_code == 404


async def test_the_route_decides_where_no_channels_are_named(api: Api) -> None:
    """And is pinned: what comes later changes nothing of what was accepted."""
    await create(api)
    shown = await sent(api)
    assert (shown["channels"], shown["strategy"]) == (["email", "inapp"], "fallback")
    await api.http.patch("/v1/categories/orders", json={"channels": ["inapp"], "strategy": "preferred"})
    assert (await sent(api))["channels"] == ["inapp"], "seen at once in the process that changed it"
    assert (await api.http.get(f"/v1/notifications/{shown['id']}")).json()["channels"] == ["email", "inapp"]
    await api.http.delete("/v1/categories/orders")
    shown = await sent(api)
    assert (shown["channels"], shown["strategy"]) == (None, "all")


async def test_what_is_named_stands_before_the_route(api: Api) -> None:
    await create(api)
    assert (await sent(api, channels=["inapp"]))["channels"] == ["inapp"]
    for strategy in ("all", "preferred"):
        assert (await sent(api, strategy=strategy))["strategy"] == strategy
    assert (await sent(api, category="other"))["channels"] is None
    assert (await sent(api, to={"email": "fang@example.com"}))["channels"] is None


async def test_items_of_a_batch_follow_it_too(api: Api) -> None:
    await create(api)
    item = body(to={"user": "u-1"}, category="orders")
    answer = await api.post({"notifications": [item]}, path="/v1/notifications/batch")
    one = answer.json()["items"][0]["id"]
    assert (await api.http.get(f"/v1/notifications/{one}")).json()["channels"] == ["email", "inapp"]


async def test_another_tenants_route_is_not_followed(api: Api) -> None:
    await api.pool.execute("INSERT INTO category (tenant, name, channels) VALUES ('other', 'orders', '{email}')")
    assert (await sent(api))["channels"] is None
    assert (await api.http.get("/v1/categories/orders")).status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"channels": []}, "/channels", "too_short"),
        ({"channels": ["email", "email"]}, "/channels", "unique"),
        ({"channels": ["telex"]}, "/channels/0", "not_allowed"),
        ({"strategy": "first"}, "/strategy", "not_allowed"),
        ({"fallback_after": "soon"}, "/fallback_after", "format"),
        ({"fallback_after": True}, "/fallback_after", "format"),
        ({"fallback_after": 1}, "/fallback_after", "range"),
        ({"mandatory": 1}, "/mandatory", "type"),
        ({"name": "a/b"}, "/name", "format"),
        ({"colour": "red"}, "/colour", "unknown_field"),
    ],
)
async def test_bad_categories(api: Api, change: dict[str, Any], pointer: str, code: str) -> None:
    answer = await create(api, **change)
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]
    assert await api.count("category") == 0


async def test_the_routes_time_is_pinned_unless_the_request_names_its_own(api: Api) -> None:
    made = await create(api, fallback_after=90)
    assert made.json()["fallback_after"] == "PT1M30S"
    assert (await sent(api))["fallback_after"] == "PT90S"
    assert (await sent(api, fallback_after="PT10S", fallback_on="not_read"))["fallback_after"] == "PT10S"
    changed = await api.http.patch("/v1/categories/orders", json={"fallback_after": None})
    assert changed.json()["fallback_after"] is None
    assert "fallback_after" not in await sent(api)
