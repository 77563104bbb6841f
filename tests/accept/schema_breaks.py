"""Every way to break the rules over several fields, made from a document that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from api.accept.cross_field_rules import OnlyWith, Where
from api.accept.rules import TOGETHER
from tests.accept.schema_documents import Break

SAMPLES: dict[str, Any] = {
    "user": "u-1", "email": "a@example.com", "phone": "+8613800000000", "channel": "email", "address": "a@example.com",
    "app": "x", "template": "t", "content": {"text": "x"}, "data": {}, "expires_in": 60,
    "expires_at": "2027-03-01T00:00:00Z",
    "digest": {"key": "k", "window": 60}, "send_at": "2026-12-02T00:00:00Z",
    "fallback_on": "not_read", "fallback_after": "PT30S", "channels": ["email"],
}  # fmt: skip


def together(kind: str, body: dict[str, Any]) -> Iterator[Break]:
    """The rules over several fields, broken in the document and in what it holds."""
    for rule in {struct.__name__: rules for struct, rules in TOGETHER.items()}.get(kind, ()):
        keyword, said = next(iter(rule.schema().items()))
        where = isinstance(rule, Where | OnlyWith)
        for broken in WHERE[rule.error.pointer](body) if where else BREAKS[keyword](body, said):
            yield keyword, rule.error.pointer, broken
    for name, inner in (("to", "To"), ("content", "InlineContent")):
        if name in body:
            for keyword, pointer, broken in together(inner, body[name]):
                yield keyword, pointer, {**body, name: broken}
    if kind in {"NotificationRequest", "TestSendRequest"}:
        yield from _of_the_recipient(body)


def _of_the_recipient(body: dict[str, Any]) -> Iterator[Break]:
    yield "not", "/to/phone", {**body, "to": {"phone": SAMPLES["phone"]}}
    yield "not", "/to/address", {**body, "to": {"channel": "inapp", "address": "u-1"}}
    yield "anyOf", "/channels", {**body, "to": {"email": SAMPLES["email"]}, "channels": ["email", "inapp"]}
    to = {"channel": "webhook", "address": "https://example.com/"}
    yield "anyOf", "/channels", {**body, "to": to, "channels": ["email"]}


def _without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def _with(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**{name: SAMPLES[name] for name in names}, **body}


def _none_or_two(body: dict[str, Any], said: Any) -> Iterator[dict[str, Any]]:
    names = [option["required"][0] for option in said]
    yield _without(body, *names)
    there = next(name for name in names if name in body)
    yield from (_with(body, name) for name in names if name != there)


def _alone(body: dict[str, Any], said: Any) -> Iterator[dict[str, Any]]:
    for name, [other] in said.items():
        if other in body and name in body:
            yield _without(body, other)
        elif other not in body and name not in body and name != "channel":  # a second recipient breaks another rule
            yield _with(body, name)


def _no_next(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {**_with(body, "fallback_after"), "strategy": "all"}
    yield _without({**_with(body, "fallback_after", "channels")}, "strategy")


def _collected(body: dict[str, Any], **fields: Any) -> Iterator[dict[str, Any]]:
    yield {**_with(body, "digest"), **fields}


def _in_another_lane(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    window = body.get("window") or {"from": "19:00", "to": "08:00"}
    for priority in ("high", "medium"):
        yield {**body, "window": window, "priority": priority}
    if "to" in body:  # a new one is in the medium lane unless it says something else; an edit leaves the lane as it is
        yield {**_without(body, "priority"), "window": window}


WHERE: dict[str, Callable[[dict[str, Any]], Iterator[dict[str, Any]]]] = {
    "/fallback_after": _no_next,
    "/to": lambda body: _collected(body, to={"email": SAMPLES["email"]}),
    "/priority": lambda body: _collected(body, priority="high"),
    "/data/items": lambda body: _collected(body, data={"items": []}),
    "/data/count": lambda body: _collected(body, data={"count": 1}),
    "/window": lambda body: _in_another_lane(body),
}
"""Rules that ask something of other fields where one is there, by their pointer."""


def _empty(body: dict[str, Any], said: Any) -> Iterator[dict[str, Any]]:
    names = [option["required"][0] for option in said]
    yield _without(body, *names)
    yield {**body, **dict.fromkeys(names, "")}


BREAKS: dict[str, Callable[[dict[str, Any], Any], Iterator[dict[str, Any]]]] = {
    "oneOf": _none_or_two,
    "not": lambda body, said: iter([_with(body, *said["required"])]),
    "dependentRequired": _alone,
    "anyOf": _empty,
    "minProperties": lambda body, said: iter([{}]),
}
