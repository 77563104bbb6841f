"""Who may do what, for every route there is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api.roles import Permission, Role, may_grant
from tests.api.conftest import Api

_SAMPLES = {"version": "1", "name": "order-shipped", "user_id": "u-1", "app_id": "shop", "code": "invalid"}
_ID = "01a20a32-744b-7020-809a-bb07e52cad04"

MATRIX: dict[str, set[str]] = {
    "POST /v1/notifications": {"sender", "owner"},
    "POST /v1/notifications/batch": {"sender", "owner"},
    "POST /v1/notifications/{id}/cancel": {"sender", "operator", "administrator", "owner"},
    "GET /v1/notifications": {role.value for role in Role},
    "POST /v1/users": {"operator", "administrator", "owner"},
    "PATCH /v1/users/{id}": {"operator", "administrator", "owner"},
    "POST /v1/users/{id}/devices": {"sender", "operator", "administrator", "owner"},
    "POST /v1/users/{id}/suppressions": {"operator", "administrator", "owner"},
    "GET /v1/users/{id}/export": {"auditor", "administrator", "owner"},
    "POST /v1/users/{id}/erase": {"administrator", "owner"},
    "POST /v1/otp": {"sender", "owner"},
    "POST /v1/otp/let-in": {"administrator", "owner"},
    "POST /v1/suppressions": {"operator", "administrator", "owner"},
    "POST /v1/templates": {"editor", "administrator", "owner"},
    "GET /v1/api-keys": {"auditor", "administrator", "owner"},
    "POST /v1/api-keys": {"administrator", "owner"},
    "POST /v1/apps": {"administrator", "owner"},
}
"""Written out by hand, against the table of `api.roles`."""


def operations(document: dict[str, Any]) -> list[tuple[str, str, set[str]]]:
    """(method, path, roles) of all routes that ask for an API key."""
    return [
        (method.upper(), path, set(operation["x-roles"]))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "x-roles" in operation
    ]


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: _SAMPLES.get(match[1], _ID), path)


async def test_every_route_lets_its_roles_in_and_no_other(shared_api: Api) -> None:
    wrong: list[str] = []
    for method, path, roles in operations(shared_api.front.fastapi.openapi()):
        body: dict[str, Any] | None = {} if method in {"POST", "PATCH"} else None
        nobody = await shared_api.call(method, filled(path), key=None, json=body)
        if nobody.status_code != 401 or nobody.headers["www-authenticate"] != 'Bearer realm="tongda"':
            wrong.append(f"{method} {path} without a key: {nobody.status_code}")
        for role in Role:
            if method == "DELETE" and role in roles:
                continue  # let in elsewhere; here it would take this key's own rows away
            answer = await shared_api.call(method, filled(path), key=role, json=body)
            if (answer.status_code == 403) is (role in roles) or answer.status_code in {401, 500}:
                wrong.append(f"{method} {path} as {role}: {answer.status_code}")
    assert wrong == []


async def test_every_v1_route_asks_for_something(shared_api: Api) -> None:
    """A route without a lock would be missing from the test above."""
    document = shared_api.front.fastapi.openapi()
    open_ = [
        f"{method} {path}" for path, methods in document["paths"].items() for method, operation in methods.items()
        if path.startswith("/v1/") and not operation.get("security")
    ]  # fmt: skip
    # a ticket in the query; the secret in the path, and the provider's signature
    assert open_ == ["get /v1/inbox/stream", "post /v1/receipts/{provider}/{account}/{secret}"]


def test_the_table_says_what_the_contract_says(shared_api: Api) -> None:
    found = {
        f"{method} {re.sub(r'{.*?}', '{id}', path)}": roles
        for method, path, roles in operations(shared_api.front.fastapi.openapi())
    }
    assert {name: found[name] for name in MATRIX} == MATRIX


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic abc", "tk_abc", "Bearer " + "x" * 600, "Bearer \u00ff"])
async def test_headers_that_are_no_key(shared_api: Api, header: str) -> None:
    answer = await shared_api.http.get("/v1/users", headers=[(b"Authorization", header.encode("latin-1"))])
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_nobody_grants_more_than_they_may() -> None:
    assert may_grant(frozenset({Role.OWNER}), list(Role))
    assert may_grant(frozenset({Role.ADMINISTRATOR}), [Role.SENDER, Role.ADMINISTRATOR])
    assert not may_grant(frozenset({Role.ADMINISTRATOR}), [Role.OWNER])
    assert not may_grant(frozenset({Role.OPERATOR}), [Role.SENDER])
    assert may_grant(frozenset({Role.OPERATOR, Role.SENDER}), [Role.SENDER])


def test_every_permission_belongs_to_somebody() -> None:
    from api.roles import holders

    assert all(holders(permission) for permission in Permission)
