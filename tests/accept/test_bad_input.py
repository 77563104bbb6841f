"""Bad input gets a clear answer that names the field, and nothing of it is stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.accept import decode, request
from tests.accept.conftest import Api, body

FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("unknown field", body(colour="red"), "/colour", "unknown_field"),
    ("unknown field deep down", body(to={"emial": "a@b.c"}), "/to/emial", "unknown_field"),
    ("no recipient", body(to={}), "/to", "exactly_one"),
    ("two recipients", body(to={"email": "a@b.c", "user": "u-1"}), "/to", "exactly_one"),
    ("no to", body(to=None), "/to", "required"),
    ("channel without address", body(to={"channel": "email"}), "/to/address", "with_channel"),
    ("app without channel", body(to={"user": "u-1", "app": "x"}), "/to/app", "with_channel"),
    ("a phone, and nothing that reaches it", body(to={"phone": "+8613800000000"}), "/to/phone", "not_available"),
    ("an address that is none", body(to={"email": "fang"}), "/to/email", "format"),
    ("header injection in an address", body(to={"email": "a@b.c\r\nBcc: x@y.z"}), "/to/email", "format"),
    ("header injection in a title", body(content={"title": "hi\r\nBcc: x@y.z", "text": "x"}), "/content/title",
     "control_character"),
    ("a webhook that is no URL", body(to={"channel": "webhook", "address": "ftp://x"}), "/to/address", "format"),
    ("a URL with a password", body(to={"channel": "webhook", "address": "https://u:p@x.y"}), "/to/address", "format"),
    ("in-app to an address", body(to={"channel": "inapp", "address": "u-1"}), "/to/address", "format"),
    ("template and content", body(template="x"), "/content", "exactly_one"),
    ("neither template nor content", body(content=None), "/content", "exactly_one"),
    ("empty content", body(content={}), "/content", "required"),
    ("data without template", body(data={"a": 1}), "/data", "with_template"),
    ("an unknown template", body(content=None, template="nope"), "/template", "unknown"),
    ("an unknown user", body(to={"user": "u-404"}), "/to/user", "recipient_unknown"),
    ("a user of another tenant", body(to={"user": "u-2"}), "/to/user", "recipient_unknown"),
    ("a user who is gone", body(to={"user": "u-gone"}), "/to/user", "recipient_gone"),
    ("an unknown channel", body(to={"user": "u-1"}, channels=["email", "fax"]), "/channels/1", "not_allowed"),
    ("no channel", body(to={"user": "u-1"}, channels=[]), "/channels", "length"),
    ("a channel twice", body(to={"user": "u-1"}, channels=["email", "email"]), "/channels", "unique"),
    ("a channel that the address cannot have", body(channels=["webhook"]), "/channels", "recipient"),
    ("an unknown priority", body(priority="urgent"), "/priority", "not_allowed"),
    ("a time without offset", body(send_at="2026-12-01T09:00:00"), "/send_at", "type"),
    ("a time that is none", body(send_at="tomorrow"), "/send_at", "format"),
    ("a time too far ahead", body(send_at="2099-01-01T00:00:00Z"), "/send_at", "range"),
    ("a life of nothing", body(expires_in="PT0S"), "/expires_in", "range"),
    ("a negative life", body(expires_in=-5), "/expires_in", "range"),
    ("a duration that is none", body(expires_in="2 hours"), "/expires_in", "format"),
    ("two ends", body(expires_in="PT1H", expires_at="2099-01-01T00:00:00Z"), "/expires_at", "exactly_one"),
    ("an end in the past", body(expires_at="2020-01-01T00:00:00Z"), "/expires_at", "range"),
    ("a receipt to wait for, and no time", body(to={"user": "u-1"}, fallback_on="not_read"), "/fallback_on",
     "with_fallback_after"),
    ("a time to fall back, and all at once", body(to={"user": "u-1"}, channels=["inapp"], fallback_after=60),
     "/fallback_after", "with_fallback"),
    ("too little time to fall back", body(to={"user": "u-1"}, strategy="fallback", fallback_after=1), "/fallback_after",
     "range"),
    ("wrong type", body(category=5), "/category", "type"),
    ("a number where an object belongs", body(content=None, template="x", data=5), "/data", "type"),
    ("a digest to an address", body(digest={"key": "k", "window": 60}), "/to", "user_only"),
    ("a digest of content", body(to={"user": "u-1"}, digest={"key": "k", "window": 60}), "/template", "required"),
    ("a digest that is urgent", body(priority="high", digest={"key": "k", "window": 60}), "/priority", "not_allowed"),
    ("a digest at a time", body(send_at="2026-12-01T09:00:00Z", digest={"key": "k", "window": 60}), "/send_at",
     "exactly_one"),
    ("a digest that brings its own list", body(content=None, template="x", data={"items": []},
     digest={"key": "k", "window": 60}), "/data/items", "reserved"),
    ("a digest without a key", body(digest={"window": 60}), "/digest/key", "required"),
    ("a key of nothing", body(digest={"key": "", "window": 60}), "/digest/key", "length"),
    ("a key with a line break", body(digest={"key": "a\nb", "window": 60}), "/digest/key", "control_character"),
    ("a window too long", body(digest={"key": "k", "window": "P8D"}), "/digest/window", "range"),
    ("a window too short", body(dedupe={"window": "PT0.5S"}), "/dedupe/window", "range"),
    ("a first that is neither", body(digest={"key": "k", "window": 60, "first": "never"}), "/digest/first", "not_allowed"),
    ("an unknown wish", body(dedupe={"window": 60, "by": "id"}), "/dedupe/by", "unknown_field"),
    ("metadata too large", body(metadata={"x": "y" * 5000}), "/metadata", "too_long"),
]  # fmt: skip


@pytest.mark.parametrize(("posted", "pointer", "code"), [f[1:] for f in FIELDS], ids=[f[0] for f in FIELDS])
async def test_a_bad_field_is_named(api: Api, posted: dict[str, Any], pointer: str, code: str) -> None:
    answer = await api.post(posted)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"pointer": pointer, "code": code} in [
        {"pointer": e.get("pointer"), "code": e["code"]} for e in answer.json()["errors"]
    ]
    assert await api.count() == 0
    assert await api.count("work") == 0


def values_of(schema: Any, shapes: dict[str, Any]) -> set[str]:
    """What a property may hold, where that is a list of words."""
    if "$ref" in schema:
        return values_of(shapes[schema["$ref"].rpartition("/")[2]], shapes)
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if isinstance(schema.get("items"), dict) else ())]
    return {*schema.get("enum", ()), *(value for part in inner for value in values_of(part, shapes))}


def test_the_lists_that_answers_name_are_the_requests_own() -> None:
    kinds = [request.NotificationRequest, request.NotificationPatch, request.TestSendRequest]
    _, shapes = msgspec.json.schema_components(kinds)
    found = {
        name: values
        for shape in shapes.values()
        for name, part in shape.get("properties", {}).items()
        if (values := values_of(part, shapes))
    }
    assert found == {name: set(values) for name, values in decode._ALLOWED.items()}


async def test_a_value_that_is_not_allowed_is_answered_with_those_that_are(api: Api) -> None:
    answer = await api.post(body(priority="urgent"))
    assert answer.json()["errors"][0]["detail"] == "One of: high, medium, low."
    answer = await api.post(body(channels=["email", "fax"]))
    [error] = answer.json()["errors"]
    assert (error["pointer"], error["detail"]) == ("/channels/1", "One of: email, inapp, webhook.")


async def test_a_time_that_is_none_is_answered_with_one(api: Api) -> None:
    answer = await api.post(body(send_at="tomorrow"))
    [error] = answer.json()["errors"]
    assert (error["pointer"], error["detail"]) == ("/send_at", "A time with its offset, such as 2026-11-28T10:00:00+08:00.")


BODIES: list[tuple[str, bytes, int]] = [
    ("not JSON", b"{", 400),
    ("nothing", b"", 400),
    ("an array", b"[]", 422),
    ("invalid UTF-8", b'{"to":{"email":"\xff@b.c"}}', 400),
    ("NUL", b'{"to":{"email":"a@b.c"},"content":{"text":"a\\u0000b"}}', 400),
    ("a raw NUL", b'{"to":{"email":"a@b.c"},"content":{"text":"a\x00b"}}', 400),
    ("half a surrogate pair", b'{"to":{"email":"a@b.c"},"content":{"text":"\\ud800"}}', 400),
    ("too deep", b'{"data":' + b'{"a":' * 100 + b"1" + b"}" * 101, 400),
    ("far too deep", b"[" * 200_000, 400),
    ("too large", b'{"content":{"text":"' + b"x" * 1_100_000 + b'"}}', 413),
    ("NaN", b'{"to":{"email":"a@b.c"},"content":{"text":"x"},"metadata":{"n":NaN}}', 400),
]


@pytest.mark.parametrize(("raw", "status"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
@pytest.mark.parametrize("path", ["/v1/notifications", "/v1/notifications/batch"])
async def test_a_body_that_cannot_be_read_is_refused(api: Api, raw: bytes, status: int, path: str) -> None:
    answer = await api.post(raw, path=path)
    assert 400 <= answer.status_code < 500
    if path == "/v1/notifications":
        assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await api.count() == 0


async def test_another_content_type_is_refused(api: Api) -> None:
    answer = await api.http.post("/v1/notifications", content=b"a=1", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


async def test_no_key_a_wrong_key_and_a_key_without_the_role(api: Api, database: str) -> None:
    from infra.postgres.bootstrap import bootstrap

    viewer = await bootstrap(database, tenant="acme", app="shop", name="viewer", roles=["viewer"])
    for header, status in (("", 401), ("Bearer tk_nobody", 401), ("Basic abc", 401), (f"Bearer {viewer}", 403)):
        answer = await api.http.post("/v1/notifications", json=body(), headers={"Authorization": header})
        assert answer.status_code == status
    assert await api.count() == 0


async def test_a_bad_idempotency_key_is_named(api: Api) -> None:
    answer = await api.post(body(), key="x" * 256)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["header"] == "Idempotency-Key"


async def test_a_query_parameter_is_an_error(api: Api) -> None:
    assert (await api.post(body(), path="/v1/notifications?dry=1")).status_code == 422
