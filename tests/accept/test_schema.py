"""The published schema and the decoder say the same: what it allows is accepted, what it forbids is refused by name.

Documents are made from the schema itself, and from its rules each way of breaking one. Fifty times as many of them:
`TESTS_DEPTH=50 ./scripts/test tests/accept/test_schema.py --timeout 0`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.accept import decode, request
from api.accept.collecting import collecting_errors
from api.accept.cross_field_rules import OnlyWith, Where
from api.accept.edits import merged
from api.accept.request import NotificationRequest
from api.accept.rules import MOST_METADATA_BYTES, TOGETHER, broken_patch_rules, broken_rules
from api.accept.schema import body_schemas
from domain.channels import Channel
from domain.digests import GIVEN
from domain.errors import FieldError, Invalid
from domain.lanes import Lane
from tests.accept.schema_breaks import BREAKS, WHERE, together
from tests.accept.schema_documents import KEYWORDS, NOTES, Documents, keywords
from tests.depth import deep

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
KINDS = (request.NotificationRequest, request.NotificationPatch, request.TestSendRequest)
SCHEMAS = body_schemas([*KINDS, request.BatchRequest])
DOCUMENTS = Documents(SCHEMAS)
VALID = {
    name: jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}, validate_formats=True
    )
    for name in SCHEMAS
}
STORED: dict[str, Any] = {
    "options": None, "channels": [], "strategy": "all", "template": "t", "content": None, "data": None, "metadata": None,
    "lane": Lane.MEDIUM, "category": "", "user_id": "u-1", "to_channel": None, "to_address": None, "send_at": None,
}  # fmt: skip


def errors_of(kind: str, body: Any) -> list[FieldError]:
    """What the accept path says before it asks a database."""
    raw = msgspec.json.encode(body)
    try:
        if kind == "NotificationRequest":
            posted = decode.notification(raw)
            return broken_rules(posted, now=NOW) + collecting_errors(posted, now=NOW)
        if kind == "TestSendRequest":
            asked = decode.test_send(raw)
            return broken_rules(
                NotificationRequest(asked.to, channels=asked.channels, template="t", data=asked.data), now=NOW
            )
        patch = decode.patch(raw)
        row = cast(asyncpg.Record, STORED)
        return broken_patch_rules(patch) or broken_rules(merged(row, patch), now=NOW)
    except Invalid as error:
        return list(error.errors)


def moments(*, least: timedelta, most: timedelta) -> st.SearchStrategy[str]:
    within = st.datetimes((NOW + least).replace(tzinfo=None), (NOW + most).replace(tzinfo=None))
    offsets = st.sampled_from(["Z", "+08:00", "-05:30"])
    return st.builds(lambda at, zone: at.isoformat() + zone, within, offsets)


WINDOWS: st.SearchStrategy[dict[str, str]] = st.fixed_dictionaries(
    {"from": st.sampled_from(["00:00", "19:00"]), "to": st.sampled_from(["08:00", "23:59"])},
    optional={"time_zone": st.sampled_from(["recipient", "tenant", "Asia/Shanghai", "UTC"])},
)
EMAILS = st.sampled_from(["a@example.com", "o'hara+x@例子.中国", "x@localhost", f"{'a' * 64}@b.c"])
URLS = st.sampled_from(["https://example.com/hook?x=1", "http://例子.中国/"])
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "send_at": moments(least=timedelta(days=-400), most=timedelta(days=398)),
    "expires_at": moments(least=timedelta(days=399), most=timedelta(days=480)),
    "expires_in": st.integers(1, 90 * 86_400) | st.sampled_from(["PT0.5S", "P90D", "p1dt2h3m4.5s", "+PT1H30M", "PT36H"]),
    "fallback_after": st.integers(5, 90 * 86_400) | st.sampled_from(["PT5S", "P90D"]),
    "metadata": st.dictionaries(st.text("ab~/é", max_size=5), st.text("ab\n", max_size=20), max_size=3),
}
"""What JSON Schema cannot say of these, said here: the documented exceptions are below."""


@st.composite
def right(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """A document that the schema allows, and that is right in what no schema can say."""
    made: dict[str, Any] = draw(DOCUMENTS.strategy(SCHEMAS[kind]))
    for name in GOOD.keys() & made.keys():
        if made[name] is not None:
            made[name] = draw(GOOD[name])
    to = made.get("to", {})
    if "email" in to:
        to["email"] = draw(EMAILS)
    if "channel" in to:
        to["channel"] = draw(st.sampled_from(["email", "webhook"]))
        to["address"] = draw(EMAILS if to["channel"] == "email" else URLS)
    if "user" not in to and "channels" in made:
        made["channels"] = [to.get("channel", "email")]
    if "url" in made.get("content", {}):
        made["content"]["url"] = draw(URLS)
    content = made.get("content")
    if content is not None and not any(content.get(name) for name in ("title", "text", "html")):
        content["text"] = "Hello"
    if "fallback_after" in made and made.get("strategy", "all") == "all":
        made["strategy"] = "fallback"
    for wish in ("digest", "dedupe"):
        if wish in made:
            made[wish]["window"] = draw(st.integers(1, 7 * 86_400) | st.sampled_from(["PT1S", "P7D"]))
    if "digest" in made:
        made |= {"to": {"user": "u-1"}, "priority": "low"}
        made["data"] = {name: value for name, value in made.get("data", {}).items() if name not in GIVEN}
    if "window" in made:
        made["priority"] = "low"
    if made.get("window"):
        made["window"] = draw(WINDOWS)
    if made.get("locale"):
        made["locale"] = "zh-CN"
    return made


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
@deep(150)
@given(data=st.data())
def test_what_the_schema_allows_is_accepted(kind: str, data: st.DataObject) -> None:
    body = data.draw(right(kind))
    assert VALID[kind].is_valid(body), [error.message for error in VALID[kind].iter_errors(body)]
    assert errors_of(kind, body) == []


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
@deep(60)
@given(data=st.data())
def test_what_the_schema_forbids_is_refused_by_its_name(kind: str, data: st.DataObject) -> None:
    """Every way to break one rule of it, at each place of each document."""
    body = data.draw(right(kind))
    for keyword, pointer, broken in [*DOCUMENTS.breaks(SCHEMAS[kind], body), *together(kind, body)]:
        assert not VALID[kind].is_valid(broken), (keyword, pointer, broken)
        said = {error.pointer for error in errors_of(kind, broken)}
        if keyword == "anyOf":  # an object, where one of the choices is: what is missing in it is named
            said |= {inner.rpartition("/")[0] for inner in said}
        assert pointer in said, (keyword, pointer, broken)


def test_no_rule_of_the_schema_is_overlooked() -> None:
    """A new keyword needs a strategy and a way to break it."""
    used = {keyword for schema in SCHEMAS.values() for keyword in keywords(schema)}
    assert used - NOTES <= KEYWORDS
    rules = [rule for rules in TOGETHER.values() for rule in rules]
    assert {next(iter(rule.schema())) for rule in rules} == {*BREAKS, "if"}
    assert {rule.error.pointer for rule in rules if isinstance(rule, Where | OnlyWith)} == WHERE.keys()


EXCEPTIONS: list[tuple[str, dict[str, Any], str, str]] = [
    ("an e-mail address", {"to": {"email": "fang"}}, "/to/email", "format"),
    ("an address of a channel", {"to": {"channel": "webhook", "address": "ftp://x"}}, "/to/address", "format"),
    ("a web address", {"content": {"text": "x", "url": "example.com"}}, "/content/url", "format"),
    ("too far ahead", {"send_at": "2099-01-01T00:00:00Z"}, "/send_at", "range"),
    ("an end before now", {"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "range"),
    ("no life", {"expires_in": "PT0S"}, "/expires_in", "range"),
    ("a long life", {"expires_in": "P91D"}, "/expires_in", "range"),
    ("an endless life", {"expires_in": "P99999999999D"}, "/expires_in", "range"),
    ("a hasty fallback", {"strategy": "fallback", "fallback_after": "PT4.9S"}, "/fallback_after", "range"),
    ("a long window", {"dedupe": {"window": "P8D"}}, "/dedupe/window", "range"),
    ("a short window", {"dedupe": {"window": "PT0.9S"}}, "/dedupe/window", "range"),
    (
        "an end before the digest's",
        {"content": None, "template": "t", "digest": {"key": "k", "window": "P1D"}, "expires_at": "2026-12-01T10:00:00Z"},
        "/expires_at",
        "range",
    ),
    (
        "a window without length",
        {"priority": "low", "window": {"from": "19:00", "to": "19:00"}},
        "/window/to",
        "range",
    ),
    (
        "a place that is none",
        {"priority": "low", "window": {"from": "19:00", "to": "08:00", "time_zone": "Asia/Atlantis"}},
        "/window/time_zone",
        "format",
    ),
    ("a decimal point", {"expires_in": 60.0}, "/expires_in", "type"),
    ("a leap second", {"send_at": "2026-12-31T23:59:60Z"}, "/send_at", "format"),
    ("the year 0", {"expires_at": "0000-01-01T00:00:00Z"}, "/expires_at", "format"),
    ("large metadata", {"metadata": {"x": "y" * MOST_METADATA_BYTES}}, "/metadata", "too_long"),
]


@pytest.mark.parametrize(("fields", "pointer", "code"), [e[1:] for e in EXCEPTIONS], ids=[e[0] for e in EXCEPTIONS])
def test_what_json_schema_cannot_say_is_refused_by_its_name_too(fields: dict[str, Any], pointer: str, code: str) -> None:
    """The whole list of exceptions: allowed by the schema, refused for one reason."""
    body = {"to": {"user": "u-1"}, "content": {"text": "x"}, **fields}
    body = {name: value for name, value in body.items() if value is not None}
    assert VALID["NotificationRequest"].is_valid(body)
    errors = errors_of("NotificationRequest", body)
    assert [(error.pointer, error.code) for error in errors] == [(pointer, code)]


@deep(300)
@given(text=st.text("PpTtDdHhMmSsWwY0159.+-, ", max_size=12))
def test_the_pattern_of_durations_is_what_is_read(text: str) -> None:
    valid = VALID["NotificationPatch"].is_valid({"expires_in": text})
    try:
        read = decode.patch(msgspec.json.encode({"expires_in": text})).expires_in
        codes = set()
    except Invalid as error:
        read, codes = None, {e.code for e in error.errors}
    if valid:
        assert codes <= {"range"}
    elif read is not None:
        assert text.startswith("-"), "a schema that is narrower than the decoder"


@pytest.mark.parametrize("count", [0, 1, 1000, 1001])
def test_a_batch_has_up_to_a_thousand(count: int) -> None:
    body: dict[str, Any] = {"notifications": [{"to": {"user": "u-1"}, "template": "t"}] * count}
    try:
        decode.batch(msgspec.json.encode(body))
        errors = []
    except Invalid as error:
        errors = [e.pointer for e in error.errors]
    assert VALID["BatchRequest"].is_valid(body) is (errors == [])
    assert errors in ([], ["/notifications"])


def test_an_item_of_a_batch_is_published_as_a_notification() -> None:
    for broken in ({}, {"to": {}, "template": "t"}, {"to": {"user": "u"}}, 5):
        assert not VALID["BatchRequest"].is_valid({"notifications": [broken]})


def test_each_channel_has_its_addresses_told() -> None:
    """A new channel is in the schema of itself."""
    for channel in Channel:
        body = {"to": {"channel": channel.value, "address": "x"}, "template": "t", "channels": [channel.value]}
        assert VALID["NotificationRequest"].is_valid(body) is (channel is not Channel.INAPP)
