"""Generated from the OpenAPI document: whoever adds a route adds its tests of tenants, keys and roles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from msgspec import Struct

from api.accept import request
from api.accept.schema import REF, body_schemas
from api.roles import Role
from tests.api.conftest import Api
from tests.routes.conftest import Ids, filled


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of every route that asks for an API key."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "x-roles" in operation:
                yield method.upper(), path, operation


def example(document: dict[str, Any], operation: dict[str, Any]) -> Any:
    """The body that the document shows, so that nothing is refused for its shape."""
    body = operation.get("requestBody")
    if body is None:
        return None
    schema = body["content"]["application/json"]["schema"]
    schema = next((option for option in schema.get("anyOf", ()) if "$ref" in option), schema)
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]].get("examples", [{}])[0]


async def rows(api: Api) -> list[Any]:
    """All that another tenant could have changed."""
    tables = (
        "notification", "work", "person", "identity", "suppression", "device", "preference", "template", "category", "app",
        "inbox_item", "api_key", "otp", "provider_account",
    )  # fmt: skip
    return [
        await api.pool.fetch(f"SELECT t::text FROM {table} t WHERE tenant = 'acme' ORDER BY 1") for table in tables
    ]  # fmt: skip


async def test_another_tenants_ids_are_not_found(routes_api: Api, document: dict[str, Any], ids: Ids) -> None:
    """With a body that is right in itself: an answer about the body would tell that the object is there."""
    before = await rows(routes_api)
    wrong: list[str] = []
    for method, path, operation in operations(document):
        if "{" not in path:
            continue
        body = example(document, operation)
        answer = await routes_api.call(method, filled(path, ids), key="other", json=body)
        if (answer.status_code, answer.json()["code"]) != (404, "not_found"):
            wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
    assert wrong == []
    assert await rows(routes_api) == before


async def test_without_a_key_and_without_the_role(routes_api: Api, document: dict[str, Any], ids: Ids) -> None:
    """401 and 403 come before anything that depends on the object or the body."""
    before = await rows(routes_api)
    wrong: list[str] = []
    for method, path, operation in operations(document):
        body = example(document, operation)
        expected: dict[str | None, int] = {None: 401, "tk_nobody": 401}
        expected |= {role.value: 403 for role in Role if role not in operation["x-roles"]}
        for key, status in expected.items():
            answer = await routes_api.call(method, filled(path, ids), key=key, json=body)
            if answer.status_code != status:
                wrong.append(f"{method} {path} with {key}: {answer.status_code}")
    assert wrong == []
    assert await rows(routes_api) == before


async def test_ids_that_nobody_has(routes_api: Api, document: dict[str, Any], ids: Ids) -> None:
    """An id that cannot be one is not there; it is no defect."""
    wrong: list[str] = []
    for strange in ("no such", "%00", "%F0%9F%98%80", "a" * 5000, "-1", "01a20a32-744b-7020-809a-bb07e52cad0"):
        for method, path, operation in operations(document):
            if "{" not in path:
                continue
            answer = await routes_api.call(
                method, filled(path, dict.fromkeys(ids, strange)), json=example(document, operation)
            )
            if answer.status_code != 404:
                wrong.append(f"{method} {path} {strange[:9]}: {answer.status_code} {answer.text[:200]}")
    assert wrong == []


async def bearer(api: Api, operation: dict[str, Any]) -> str:
    """Who may call it: a key of acme's owner, or a token of u-acme."""
    if operation.get("security") != [{"user_token": []}]:
        return api.keys["owner"]
    token: str = (await api.post("/v1/users/u-acme/tokens")).json()["token"]
    return token


def all_operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of /v1, those of user tokens too, but for receipts: providers send what they send."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/") and not path.startswith("/v1/receipts/"):
                yield method.upper(), path, operation


async def test_a_route_that_takes_no_body_follows_none(routes_api: Api, document: dict[str, Any], ids: Ids) -> None:
    """Caught: those of user tokens passed it over. JSON or not, and whatever else is wrong with the request."""
    before, wrong, tried = await rows(routes_api), list[str](), 0
    for method, path, operation in all_operations(document):
        if method != "POST" or "requestBody" in operation:
            continue
        key, where = await bearer(routes_api, operation), filled(path, ids)
        for body, errors in (
            (b'{"as": "read"}', [{"pointer": "/as", "code": "unknown_field", "detail": "There is no such field."}]),
            (b'["as"]', [{"code": "type", "pointer": "", "detail": "Expected object, got array"}]),
        ):
            answer = await routes_api.call(
                method, where, key=key, content=body, headers={"Content-Type": "application/json"}
            )
            if (answer.status_code, answer.json().get("errors")) != (422, errors):
                wrong.append(f"{method} {path}: {answer.status_code} {answer.text}")
        answer = await routes_api.call(method, where, key=key, content=b"as=read", headers={"Content-Type": "text/plain"})
        if answer.status_code != 415:
            wrong.append(f"{method} {path}: {answer.status_code} {answer.text}")
        tried += 1
    assert wrong == [], "\n".join(wrong)
    assert tried > 15
    assert await rows(routes_api) == before


async def test_a_parameter_that_no_route_knows_is_refused(routes_api: Api, document: dict[str, Any], ids: Ids) -> None:
    before, wrong = await rows(routes_api), list[str]()
    for method, path, operation in all_operations(document):
        key, body = await bearer(routes_api, operation), example(document, operation)
        answer = await routes_api.call(method, filled(path, ids), key=key, json=body, params={"unread_only": "true"})
        said = {"code": "unknown_parameter", "detail": "There is no such query parameter.", "parameter": "unread_only"}
        if path in ("/v1/notifications", "/v1/notifications/batch") and method == "POST":
            said |= {"parameter": "", "detail": "There are no query parameters here."}
        if (answer.status_code, answer.json().get("errors")) != (422, [said]):
            wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
    assert wrong == [], "\n".join(wrong)
    assert await rows(routes_api) == before


@pytest.mark.parametrize(
    ("path", "key"), [("/v1/categories", "name"), ("/v1/templates", "name"), ("/v1/apps", "id"), ("/v1/users", "id")]
)
async def test_lists_neither_skip_nor_repeat_while_others_are_made(routes_api: Api, path: str, key: str) -> None:
    """What was there at the start is seen exactly once; what comes in between at most once."""
    there = [await _make(routes_api, path, f"l-{number:02}-{path[4]}") for number in range(0, 40, 2)]
    seen: list[str] = []
    async for page in routes_api.pages(path, limit=3):
        seen += [item[key] for item in page]
        await _make(routes_api, path, f"l-{len(seen):02}-new")  # before and behind the cursor, in turn
    assert sorted(name for name in seen if name in there) == there
    assert len(set(seen)) == len(seen)


async def _make(api: Api, path: str, name: str) -> str:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/categories": {"name": name, "channels": ["email"]},
        "/v1/templates": {"name": name, "contents": {"en": {"default": {"text": "Hello"}}}},
        "/v1/apps": {"id": name, "name": name},
        "/v1/users": {"id": name},
    }
    await api.post(path, bodies[path])
    return name


async def test_times_that_lie_far_out_are_times(routes_api: Api) -> None:
    """Caught: `from` before 1970 and at the ends of the calendar were a 500."""
    for at in ("0001-01-01T00:00:00+08:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-08:00"):
        for name in ("from", "to"):
            answer = await routes_api.get("/v1/notifications", params={name: at})
            assert answer.status_code == 200, (name, at, answer.text)


def test_the_published_bodies_are_those_that_are_decoded(document: dict[str, Any]) -> None:
    """What tests/accept/test_schema.py holds to the decoder is what the document shows, and its examples are right."""
    bodies: list[type[Struct]] = [
        request.NotificationRequest, request.BatchRequest, request.NotificationPatch, request.TestSendRequest,
    ]  # fmt: skip
    published = document["components"]["schemas"]
    for name, schema in body_schemas(bodies).items():
        assert {key: value for key, value in published[name].items() if key != "examples"} == schema
        valid = jsonschema_rs.Draft202012Validator({"$ref": REF.format(name=name), "components": {"schemas": published}})
        for shown in published[name].get("examples", ()):
            assert valid.is_valid(shown), [error.message for error in valid.iter_errors(shown)]
    paths = {
        ("/v1/notifications", "post"): "NotificationRequest",
        ("/v1/notifications/batch", "post"): "BatchRequest",
        ("/v1/notifications/{notification_id}", "patch"): "NotificationPatch",
        ("/v1/templates/{name}/test-send", "post"): "TestSendRequest",
    }
    for (path, method), name in paths.items():
        body = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": REF.format(name=name)}, path
