"""Every creating route of the OpenAPI document: what was accepted is answered so by its key, whatever the rules say now."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema_rs
import pytest

from api.replay_answers import takes_key
from infra.secrets import derive
from tests.api.conftest import SECRET_KEY, Api, insert_notification, make_keys, running
from tests.routes.conftest import Ids, filled, one_of_each

CONTENTS = {"en": {"default": {"text": "Hello"}}}
MAIL = {"to": {"email": "a@example.com"}, "content": {"text": "Hello"}}
TO_USER = {**MAIL, "to": {"user": "u-acme"}}
ACCEPTED: dict[str, Any] = {
    "/v1/notifications": TO_USER,
    "/v1/notifications/batch": {"notifications": [TO_USER, MAIL]},
    "/v1/notifications/{notification_id}/resend": None,
    "/v1/notifications/retry": {"status": "failed", "template": "t-acme"},
    "/v1/otp": {"to": {"user": "u-code"}},
    "/v1/otp/{otp_id}/resend": None,
    "/v1/categories": {"name": "new", "channels": ["email"]},
    "/v1/templates": {"name": "new", "contents": CONTENTS},
    "/v1/templates/{name}/versions": {"contents": CONTENTS},
    "/v1/templates/{name}/test-send": {"to": {"user": "u-acme"}, "channels": ["email"]},
    "/v1/users": {"id": "u-new"},
    "/v1/users/{user_id}/identities": {"channel": "email", "address": "b@example.com"},
    "/v1/users/{user_id}/devices": {"kind": "android", "token": "n" * 20},
    "/v1/users/{user_id}/suppressions": {"channel": "email", "address": "b@example.com"},
    "/v1/suppressions": {"channel": "email", "address": "c@example.com"},
    "/v1/providers": {
        "name": "new", "provider": "smtp", "settings": {"host": "mail.example.com", "sender": "a@example.com"},
    },
    "/v1/apps": {"id": "new", "name": "x"},
    "/v1/api-keys": {"name": "k", "app": "shop", "roles": ["sender"]},
    "/v1/api-keys/{key_id}/rotate": None,
}  # fmt: skip
"""Path -> a body that is right. A new creating route needs a line here, or the test below fails."""
GONE = (
    "person", "identity", "device", "suppression", "template", "template_version", "category", "provider_account", "otp",
    "work", "event", "notification",
)  # fmt: skip
NOW_REFUSED = b'{"a field of an older version": 1}'
ANSWER = b'{"id":"01a20a32-744b-7020-809a-bb07e52cad04","name":"n","version":1,"status":"accepted","lane":"medium"}'


@dataclass
class Made:
    api: Api
    ids: Ids


@pytest.fixture
async def made(database: str) -> AsyncIterator[Made]:
    async with running(database) as api:
        api.keys = await make_keys(database)
        ids = await one_of_each(api)
        ended = await insert_notification(
            api.pool, user_id="u-acme", content='{"text": "Hello"}', status="failed", final=True
        )  # fmt: skip
        code = {"id": "u-code", "identities": [{"channel": "email", "address": "code@example.com"}]}
        assert (await api.post("/v1/users", code)).status_code == 201
        await api.pool.execute("UPDATE otp SET resend_at = now() - interval '1 second'")
        await api.pool.execute("TRUNCATE otp_counter")
        yield Made(api, {**ids, "/v1/notifications/{notification_id}": str(ended)})


def creating(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and operation of each route that takes an Idempotency-Key."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if takes_key(operation):
                yield path, operation


def said_otherwise(document: dict[str, Any], operation: dict[str, Any], answer: httpx.Response) -> list[str]:
    """What of an answer is not as the document describes it: its status, its body, its headers."""
    described = operation["responses"].get(str(answer.status_code))
    if described is None:
        return [f"{answer.status_code} is not described"]
    headers: dict[str, Any] = {name.lower(): header for name, header in described.get("headers", {}).items()}
    content = described["content"]["application/json"]
    found = breaks(document, content["schema"], answer.json())
    for name, header in headers.items():
        if header["required"] or name in answer.headers:
            found += breaks(document, header["schema"], answer.headers.get(name))
    for name in {"location", "idempotent-replay"} & set(answer.headers) - set(headers):
        found.append(f"{name} is not described")
    if answer.status_code == 200:
        found += breaks(document, content["schema"], content["example"])
    return found


def breaks(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    valid = jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
    return [error.message for error in valid.iter_errors(value)]


async def test_a_repetition_is_answered_as_the_document_describes_it(made: Made) -> None:
    """So is the first request, of every creating route: statuses, headers, body, and the example beside them."""
    document, wrong = made.api.front.fastapi.openapi(), list[str]()
    for path, operation in creating(document):
        where, body = filled(path, made.ids), ACCEPTED[path]
        first, again = [await made.api.post(where, body, once="k") for _ in range(2)]
        assert first.status_code in (201, 202), (path, first.text)
        assert (again.status_code, again.headers["idempotent-replay"]) == (200, "true"), (path, again.text)
        for answer in (first, again):
            wrong += [f"{path} {answer.status_code}: {said}" for said in said_otherwise(document, operation, answer)]
    assert wrong == [], "\n".join(wrong)


async def test_what_is_there_already_is_answered_as_the_document_describes_it(made: Made) -> None:
    """The other 200 of these routes: another request for the same thing. It is no repetition, and is not called one."""
    document, tried = made.api.front.fastapi.openapi(), 0
    for path, body in ACCEPTED.items():
        await made.api.post(filled(path, made.ids), body)
    for path, operation in creating(document):
        if not operation["responses"]["200"]["description"].startswith("The first answer"):
            body = {**ACCEPTED[path], **({"dry_run": True} if path.endswith("/retry") else {})}
            answer = await made.api.post(filled(path, made.ids), body, once="k")
            assert answer.status_code == 200, (path, answer.text)
            assert "idempotent-replay" not in answer.headers
            assert said_otherwise(document, operation, answer) == [], path
            tried += 1
    assert tried == 4


async def test_what_was_made_is_answered_so_though_all_it_was_made_of_is_gone(made: Made) -> None:
    api = made.api
    assert set(ACCEPTED) == {path for path, _ in creating(api.front.fastapi.openapi())}
    paths = {filled(path, made.ids): body for path, body in ACCEPTED.items()}
    first = {path: await api.post(path, body, once="k") for path, body in paths.items()}
    for path, answer in first.items():
        assert answer.status_code in (201, 202), (path, answer.text)
        assert "idempotent-replay" not in answer.headers
    await api.pool.execute(f"TRUNCATE {', '.join(GONE)} CASCADE")
    await api.pool.execute("DELETE FROM api_key WHERE id = $1::text::uuid", made.ids["/v1/api-keys/{key_id}"])
    api.container.providers.types.pop("smtp")
    for path, body in paths.items():
        again = await api.post(path, body, once="k")
        assert (again.status_code, again.headers.get("idempotent-replay")) == (200, "true"), (path, again.text)
        assert again.headers.get("location") == first[path].headers.get("location"), path
        assert again.json() == {**first[path].json(), **({"key": None} if "api-keys" in path else {})}, path


async def test_what_an_older_version_accepted_is_answered_so_though_this_one_refuses_it(made: Made) -> None:
    api, wrong = made.api, list[str]()
    for path, operation in creating(api.front.fastapi.openapi()):
        where = filled(path, made.ids)
        await _accepted(api, where)
        expected: list[tuple[bytes, str, str, tuple[int, ...]]] = [
            (NOW_REFUSED, "k", "owner", (200,)),
            (NOW_REFUSED + b" ", "k", "owner", (409,)),
            (NOW_REFUSED, "new", "owner", (422,)),
            (NOW_REFUSED, "k", "other", (404, 422)),
            (NOW_REFUSED, "k", "viewer", (403,)),
            (NOW_REFUSED, "x" * 256, "owner", (422,)),
        ]
        assert "viewer" not in operation["x-roles"]
        for body, once, key, statuses in expected:
            json_headers = {"Content-Type": "application/json", "Idempotency-Key": once}
            answer = await api.call("POST", where, key=key, headers=json_headers, content=body)
            if answer.status_code not in statuses:
                wrong.append(f"{path} {once[:3]} by {key}: {answer.status_code} {answer.text[:200]}")
            if answer.status_code == 200 and (answer.content, answer.headers["idempotent-replay"]) != (ANSWER, "true"):
                wrong.append(f"{path}: {answer.text}")
    assert wrong == []


async def _accepted(api: Api, path: str) -> None:
    """As if it had been, with ANSWER."""
    body_hash = hashlib.sha256(NOW_REFUSED).digest()
    if path == "/v1/providers":
        body_hash = hmac.digest(derive(SECRET_KEY, "idempotency"), NOW_REFUSED, "sha256")
    await api.pool.execute(
        "INSERT INTO idempotency (tenant, app, route, key, body_hash, answer) VALUES ('acme', 'shop', $1, 'k', $2, $3)",
        f"POST {path}", body_hash, ANSWER,
    )  # fmt: skip
