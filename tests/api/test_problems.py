"""Errors as callers meet them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

import domain.errors
from api import problems
from api.problem_types import PROBLEM_TYPES
from domain.errors import Broken, NoLongerWanted, Rejected, TongdaError, Unavailable
from tests.api.conftest import Api, codes

ROOT = Path(__file__).parents[2]


def error_codes_of_the_code() -> set[str]:
    """Every `code="..."` that is given to an error of the caller's."""
    kinds = {name for name, kind in vars(domain.errors).items() if isinstance(kind, type) and issubclass(kind, Rejected)}
    found: set[str] = set()
    for folder in ("api", "domain", "infra"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) in kinds:
                    found |= {
                        str(k.value.value) for k in node.keywords if k.arg == "code" and isinstance(k.value, ast.Constant)
                    }
    return found


def test_every_code_is_published() -> None:
    roots = {
        "error",
        "rejected",
        "failed",
        "no_longer_wanted",
        "out_of_time",
        "broken",
    }  # roots, and what never reaches a caller but as `internal`
    classes = {
        kind.code for kind in vars(domain.errors).values() if isinstance(kind, type) and issubclass(kind, TongdaError)
    }
    assert (classes - roots) | error_codes_of_the_code() <= set(PROBLEM_TYPES)


async def test_the_shape_of_a_problem(shared_api: Api) -> None:
    answer = await shared_api.get("/v1/users/nobody")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/problems/not_found", "title": "No such object", "status": 404, "code": "not_found",
        "detail": "There is no user with this id.",
    }  # fmt: skip
    explained = (await shared_api.get(answer.json()["type"], key=None)).json()
    assert (explained["code"], explained["status"]) == ("not_found", 404)
    listed = (await shared_api.get("/problems", key=None)).json()["items"]
    assert {item["code"] for item in listed} == set(PROBLEM_TYPES)


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("GET", "/nope", {}, 404, "not_found"),
        ("GET", "/v1/users/a%00b", {}, 404, "not_found"),
        ("GET", "/v1/notifications/not-an-id", {}, 404, "not_found"),
        ("GET", "/v1/api-keys/7", {}, 404, "not_found"),
        ("PUT", "/v1/users", {"json": {}}, 405, "method_not_allowed"),
        ("POST", "/v1/users", {"content": b"id=1"}, 415, "unsupported_media_type"),
        ("POST", "/v1/users", {"data": {"id": "1"}}, 415, "unsupported_media_type"),
        ("POST", "/v1/users", {"content": b"{}", "headers": {"content-type": "application/json; charset=gbk"}}, 415,
         "unsupported_media_type"),
        ("POST", "/v1/users", {"content": b" " * (1 << 20) + b"{}", "headers": {"content-type": "application/json"}}, 413,
         "too_large"),
        ("POST", "/v1/users", {"content": b'{"id": ', "headers": {"content-type": "application/json"}}, 400, "malformed"),
        ("POST", "/v1/users", {"content": b'{"attributes": {"x": NaN}}', "headers": {"content-type": "application/json"}},
         400, "malformed"),
        ("POST", "/v1/users", {"content": b'{"id": "\xff"}', "headers": {"content-type": "application/json"}}, 400,
         "invalid_utf8"),
        ("POST", "/v1/users", {"content": b'{"id": "\\u0000"}', "headers": {"content-type": "application/json"}}, 400,
         "nul_character"),
        ("POST", "/v1/users", {"content": b"[" * 33 + b"]" * 33, "headers": {"content-type": "application/json"}}, 400,
         "too_deep"),
        ("POST", "/v1/users", {"content": b'{"id": "a", "id": "b"}', "headers": {"content-type": "application/json"}}, 400,
         "repeated_name"),
        ("POST", "/v1/users", {}, 422, "invalid"),
        ("POST", "/v1/users", {"json": []}, 422, "invalid"),
        ("POST", "/v1/users", {"json": None}, 422, "invalid"),
    ],
)  # fmt: skip
async def test_requests_that_cannot_be_read(
    shared_api: Api, method: str, path: str, sent: dict[str, Any], status: int, code: str
) -> None:
    answer = await shared_api.call(method, path, **sent)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["status"] == status
    assert await shared_api.count("person") == 0


async def test_a_method_that_is_not_there_names_those_that_are(shared_api: Api) -> None:
    answer = await shared_api.call("PUT", "/v1/users/u-1", json={})
    assert set(answer.headers["allow"].split(", ")) >= {"GET"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=x&foo=1", {("limit", "type"), ("foo", "unknown_parameter")}),
        ("limit=0", {("limit", "range")}),
        ("limit=501", {("limit", "range")}),
        ("status=sending", {("status", "not_allowed")}),
        ("from=yesterday", {("from", "format")}),
        ("from=1700000000", {("from", "format")}),
        ("to=2026-12-01T09:00:00", {("to", "format")}),
        ("cursor=%2A%2A", {("cursor", "format")}),
        ("user=%00", {("user", "nul_character")}),
    ],
)
async def test_query_parameters_are_named(shared_api: Api, query: str, expected: set[tuple[str, str]]) -> None:
    answer = await shared_api.get(f"/v1/notifications?{query}")
    assert answer.status_code == 422
    assert "parameter" in answer.json()["errors"][0]
    assert expected & set(codes(answer))


async def test_a_plus_that_was_not_encoded_is_still_a_time(shared_api: Api) -> None:
    answer = await shared_api.get("/v1/notifications?from=2026-12-01T09:00:00+08:00")
    assert answer.status_code == 200


async def test_a_defect_is_500_without_a_trace(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret@example.com went wrong")

    monkeypatch.setattr("infra.postgres.users.persons.PersonRepository.get", broken)
    with capture_logs() as logs:
        answer = await api.get("/v1/users/u-1", headers={"X-Request-Id": "trace-7"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "trace-7"
    assert [entry["event"] for entry in logs] == ["request.failed"]
    assert logs[0]["route"] == "/v1/users/{user_id}"


async def test_a_request_id_of_ours_where_theirs_is_none(api: Api) -> None:
    answer = await api.get("/healthz", headers={"X-Request-Id": "new\tline"})
    assert len(answer.headers["x-request-id"]) == 36


@pytest.mark.parametrize(
    ("error", "status", "code", "told"),
    [
        (Unavailable("No node.", code="datacenter"), 503, "unavailable", "No node."),
        (Broken("A table is missing.", code="schema_missing"), 500, "internal", None),
        (NoLongerWanted("Used."), 500, "internal", None),
        (RuntimeError("secret"), 500, "internal", None),
        (TimeoutError("secret"), 503, "unavailable", "The database did not answer in time; try again."),
    ],
)
def test_our_own_failures_are_told_in_published_words(error: Exception, status: int, code: str, told: str | None) -> None:
    fields = problems.problem_fields(error)
    assert (fields["status"], fields["code"]) == (status, code)
    assert "secret" not in str(fields)
    assert "table" not in str(fields)
    if told is not None:
        assert fields["detail"] == told


def test_batch_items_use_the_same_words() -> None:
    error = domain.errors.Invalid.field("/to/email", "format", "No.")
    status, headers, body = problems.problem(error)
    assert httpx.Response(status, content=body).json() == problems.problem_fields(error)
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
