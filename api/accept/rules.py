"""The rules that go beyond types: every one that is broken is named, by its field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from api.accept.cross_field_rules import ExactlyOne, Needs, NotBoth, OneFilled, OnlyWith, Something, Together, Where, broken
from api.accept.request import (
    LEAST_FALLBACK_AFTER,
    MOST_LIFE,
    InlineContent,
    NotificationPatch,
    NotificationRequest,
    SendWindow,
    Span,
    To,
)
from domain.addresses import address_problem, has_control, url_problem
from domain.channels import Channel
from domain.digests import GIVEN
from domain.errors import FieldError
from domain.lanes import Lane
from domain.states import Strategy
from domain.windows import RECIPIENT, TENANT
from domain.zones import is_time_zone

MOST_AHEAD = timedelta(days=400)
MOST_METADATA_BYTES = 4096

_ADDRESS = FieldError("/to/address", "with_channel", "channel and address belong together.")
_TO = (
    ExactlyOne(
        ("user", "email", "phone", "channel"),
        FieldError("/to", "exactly_one", "Give exactly one of: user, email, phone, or channel with address."),
    ),
    Needs("channel", "address", _ADDRESS),
    Needs("address", "channel", _ADDRESS),
    Needs("app", "channel", FieldError("/to/app", "with_channel", "app belongs to channel and address.")),
)
_ONE_SOURCE = FieldError("/content", "exactly_one", "Give exactly one of: template or content.")
_NO_DATA = NotBoth(
    ("data", "content"),
    FieldError("/data", "with_template", "data fills a template's variables; content is taken as it is."),
)
_SOURCE = (ExactlyOne(("template", "content"), _ONE_SOURCE), _NO_DATA)
_CONTENT = (
    OneFilled(("title", "text", "html"), FieldError("/content", "required", "Give at least one of title, text or html.")),
)
_END = (
    NotBoth(
        ("expires_in", "expires_at"), FieldError("/expires_at", "exactly_one", "Give expires_in or expires_at, not both.")
    ),
)


def _leaves(name: str, request: NotificationRequest) -> bool:
    return request.data is UNSET or name not in request.data


_FALLBACK = (
    Needs(
        "fallback_on",
        "fallback_after",
        FieldError(
            "/fallback_on",
            "with_fallback_after",
            "fallback_on says what must have come when fallback_after has passed: give both.",
        ),
    ),
    Where(
        "fallback_after",
        {
            "properties": {"strategy": {"not": {"const": Strategy.ALL.value}}},
            "anyOf": [{"required": ["strategy"]}, {"not": {"required": ["channels"]}}],
        },
        lambda r: r.strategy is not Strategy.ALL and (r.strategy is not UNSET or r.channels is UNSET),
        FieldError("/fallback_after", "with_fallback", "There is a next channel with strategy fallback or preferred only."),
    ),
)
_LOW_ONLY = FieldError("/window", "low_only", "Only the low lane keeps to a window: use priority low, or send_at.")
_REQUEST = (*_SOURCE, *_END, *_FALLBACK, OnlyWith("window", "priority", Lane.LOW.label, said=True, error=_LOW_ONLY))
GIVES: tuple[Together, ...] = tuple(
    Where(
        "digest",
        {"properties": {"data": {"not": {"required": [name]}}}},
        partial(_leaves, name),
        FieldError(f"/data/{name}", "reserved", f"{name} is what the digest itself gives to its template."),
    )
    for name in sorted(GIVEN)
)
"""Of what has asked to be collected, also when it is edited."""
DIGEST: tuple[Together, ...] = (
    Where(
        "digest",
        {"properties": {"to": {"required": ["user"]}}},
        lambda r: r.to.user is not UNSET,
        FieldError("/to", "user_only", "A digest goes to a user, not to an address."),
    ),
    Needs(
        "digest",
        "template",
        FieldError("/template", "required", "A digest is made by a template, from the data of its items."),
    ),
    Where(
        "digest",
        {"properties": {"priority": {"not": {"const": "high"}}}},
        lambda r: r.priority != "high",
        FieldError("/priority", "not_allowed", "What is urgent is not collected: use medium or low."),
    ),
    NotBoth(
        ("digest", "send_at"),
        FieldError("/send_at", "exactly_one", "A digest is sent when its window ends: leave send_at out."),
    ),
    *GIVES,
)
"""Rules for requests that ask for a digest."""
_PATCH = (
    Something(FieldError("", "required", f"Give at least one of: {', '.join(NotificationPatch.__struct_fields__)}.")),
    NotBoth(("template", "content"), _ONE_SOURCE),
    _NO_DATA,
    *_END,
    OnlyWith("window", "priority", Lane.LOW.label, said=False, error=_LOW_ONLY),
)

TOGETHER: Mapping[type[Struct], tuple[Together, ...]] = {
    To: _TO,
    InlineContent: _CONTENT,
    NotificationRequest: (*_REQUEST, *DIGEST),
    NotificationPatch: _PATCH,
}
"""What is demanded of the fields of each together, for the published schema (`api.accept.schema`)."""


def duration(value: Span) -> timedelta:
    """ISO 8601 durations are decoded already; a number is seconds."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def direct_address(to: To) -> tuple[Channel, str] | None:
    """(channel, address) where no user is named."""
    if to.email is not UNSET:
        return Channel.EMAIL, to.email
    if to.channel is not UNSET and to.address is not UNSET:
        return to.channel, to.address
    return None


def broken_rules(request: NotificationRequest, *, now: datetime) -> list[FieldError]:
    """All rules that this request breaks; empty when it may be accepted as far as it can be told without a database."""
    errors: list[FieldError] = []
    _to(request, errors)
    errors += broken(_REQUEST, request)
    _what(request, errors)
    _times(request, errors, now=now)
    _ways(request, errors)
    if request.window is not UNSET and request.window is not None:
        _window(request.window, errors)
    if request.metadata is not UNSET:
        _encodable(request.metadata, "/metadata", errors, most_bytes=MOST_METADATA_BYTES)
    if request.data is not UNSET:
        _encodable(request.data, "/data", errors)
    if has_control(request.category):
        errors.append(FieldError("/category", "control_character", "A category holds no control characters."))
    return errors


def broken_patch_rules(patch: NotificationPatch) -> list[FieldError]:
    """The rules that an edit breaks by itself; merged with what is stored it is judged by `broken_rules`."""
    return broken(_PATCH, patch)


def _to(request: NotificationRequest, errors: list[FieldError]) -> None:
    to = request.to
    if to.phone is not UNSET:
        errors.append(FieldError("/to/phone", "not_available", "No channel that reaches a phone number is set up."))
    errors += broken(_TO, to)
    direct = direct_address(to)
    if direct is not None:
        problem = address_problem(*direct)
        if problem is not None:
            errors.append(FieldError("/to/email" if to.email is not UNSET else "/to/address", "format", problem))


def _what(request: NotificationRequest, errors: list[FieldError]) -> None:
    if request.content is not UNSET:
        errors += broken(_CONTENT, request.content)
        _content(request.content, errors)


def _content(content: InlineContent, errors: list[FieldError]) -> None:
    if content.title is not UNSET and has_control(content.title):
        message = "A title is one line: no line breaks or other control characters."
        errors.append(FieldError("/content/title", "control_character", message))
    if content.url is not UNSET:
        problem = url_problem(content.url)
        if problem is not None:
            errors.append(FieldError("/content/url", "format", problem))


def _times(request: NotificationRequest, errors: list[FieldError], *, now: datetime) -> None:
    begins = now
    if request.send_at is not UNSET:
        begins = max(now, request.send_at)
        if request.send_at > now + MOST_AHEAD:
            errors.append(FieldError("/send_at", "range", f"send_at lies at most {MOST_AHEAD.days} days ahead."))
    if request.expires_in is not UNSET and not timedelta(0) < duration(request.expires_in) <= MOST_LIFE:
        message = f"expires_in is longer than nothing and at most {MOST_LIFE.days} days."
        errors.append(FieldError("/expires_in", "range", message))
    if request.expires_at is not UNSET and not begins < request.expires_at <= now + MOST_AHEAD + MOST_LIFE:
        errors.append(FieldError("/expires_at", "range", "expires_at lies after now and after send_at."))


def _window(window: SendWindow, errors: list[FieldError]) -> None:
    if window.from_ == window.to:
        errors.append(FieldError("/window/to", "range", "A window closes at another time than it opens."))
    if window.time_zone not in (RECIPIENT, TENANT) and not is_time_zone(window.time_zone):
        message = "Give recipient, tenant, or an IANA time zone, as in Asia/Shanghai."
        errors.append(FieldError("/window/time_zone", "format", message))


def _ways(request: NotificationRequest, errors: list[FieldError]) -> None:
    _by_time(request, errors)
    channels = request.channels
    if channels is UNSET:
        return
    if len(set(channels)) != len(channels):
        errors.append(FieldError("/channels", "unique", "Each channel is named once."))
    direct = direct_address(request.to)
    if direct is not None and any(channel is not direct[0] for channel in channels):
        message = f"This recipient can be reached by {direct[0]} only; name a user to use several channels."
        errors.append(FieldError("/channels", "recipient", message))


def _by_time(request: NotificationRequest, errors: list[FieldError]) -> None:
    after = request.fallback_after
    if after is UNSET:
        return
    if not LEAST_FALLBACK_AFTER <= duration(after) <= MOST_LIFE:
        message = f"fallback_after lies between {LEAST_FALLBACK_AFTER.seconds} seconds and {MOST_LIFE.days} days."
        errors.append(FieldError("/fallback_after", "range", message))


def _encodable(value: dict[str, Any], pointer: str, errors: list[FieldError], *, most_bytes: int | None = None) -> None:
    """JSON allows numbers that nothing behind us can hold."""
    try:
        size = len(msgspec.json.encode(value))
    except (OverflowError, ValueError, TypeError, RecursionError):
        errors.append(FieldError(pointer, "range", "It holds a number that is out of range."))
        return
    if most_bytes is not None and size > most_bytes:
        errors.append(FieldError(pointer, "too_long", f"At most {most_bytes} bytes of JSON."))
