"""The rules that go beyond types: every one that is broken is named, by its field."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from api.accept.request import InlineContent, NotificationRequest, Span, To
from domain.addresses import address_problem, has_control, url_problem
from domain.channels import Channel
from domain.errors import FieldError
from domain.states import Strategy

MOST_LIFE = timedelta(days=90)
MOST_AHEAD = timedelta(days=400)
LEAST_FALLBACK_AFTER = timedelta(seconds=5)
"""A receipt needs a moment; what it takes to look is less than a second."""
MOST_METADATA_BYTES = 4096
_WAYS = ("user", "email", "phone", "channel")


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
    _what(request, errors)
    _times(request, errors, now=now)
    _ways(request, errors)
    if request.metadata is not UNSET:
        _encodable(request.metadata, "/metadata", errors, most_bytes=MOST_METADATA_BYTES)
    if request.data is not UNSET:
        _encodable(request.data, "/data", errors)
    if has_control(request.category):
        errors.append(FieldError("/category", "control_character", "A category holds no control characters."))
    return errors


def _to(request: NotificationRequest, errors: list[FieldError]) -> None:
    to = request.to
    given = [way for way in _WAYS if getattr(to, way) is not UNSET]
    if len(given) != 1:
        message = "Give exactly one of: user, email, phone, or channel with address."
        errors.append(FieldError("/to", "exactly_one", message))
        return
    if to.phone is not UNSET:
        errors.append(FieldError("/to/phone", "not_available", "No channel that reaches a phone number is set up."))
    if (to.channel is UNSET) != (to.address is UNSET):
        errors.append(FieldError("/to/address", "with_channel", "channel and address belong together."))
        return
    if to.app is not UNSET and to.channel is UNSET:
        errors.append(FieldError("/to/app", "with_channel", "app belongs to channel and address."))
    direct = direct_address(to)
    if direct is not None:
        problem = address_problem(*direct)
        if problem is not None:
            errors.append(FieldError("/to/email" if to.email is not UNSET else "/to/address", "format", problem))


def _what(request: NotificationRequest, errors: list[FieldError]) -> None:
    content = request.content
    if (request.template is UNSET) == (content is UNSET):
        errors.append(FieldError("/content", "exactly_one", "Give exactly one of: template or content."))
        return
    if content is UNSET:
        return
    if request.data is not UNSET:
        errors.append(FieldError("/data", "with_template", "data fills a template's variables; content is taken as it is."))
    if not any(_filled(value) for value in (content.title, content.text, content.html)):
        errors.append(FieldError("/content", "required", "Give at least one of title, text or html."))
    _content(content, errors)


def _filled(value: str | UnsetType) -> bool:
    return value is not UNSET and value != ""


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
    if request.expires_in is not UNSET and request.expires_at is not UNSET:
        errors.append(FieldError("/expires_at", "exactly_one", "Give expires_in or expires_at, not both."))
    if request.expires_in is not UNSET and not timedelta(0) < duration(request.expires_in) <= MOST_LIFE:
        message = f"expires_in is longer than nothing and at most {MOST_LIFE.days} days."
        errors.append(FieldError("/expires_in", "range", message))
    if request.expires_at is not UNSET and not begins < request.expires_at <= now + MOST_AHEAD + MOST_LIFE:
        errors.append(FieldError("/expires_at", "range", "expires_at lies after now and after send_at."))


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
    after, strategy = request.fallback_after, request.strategy
    if after is UNSET:
        if request.fallback_on is not UNSET:
            message = "fallback_on says what must have come when fallback_after has passed: give both."
            errors.append(FieldError("/fallback_on", "with_fallback_after", message))
        return
    if not LEAST_FALLBACK_AFTER <= duration(after) <= MOST_LIFE:
        message = f"fallback_after lies between {LEAST_FALLBACK_AFTER.seconds} seconds and {MOST_LIFE.days} days."
        errors.append(FieldError("/fallback_after", "range", message))
    if strategy is Strategy.ALL or (strategy is UNSET and request.channels is not UNSET):
        message = "There is a next channel with strategy fallback or preferred only."
        errors.append(FieldError("/fallback_after", "with_fallback", message))


def _encodable(value: dict[str, Any], pointer: str, errors: list[FieldError], *, most_bytes: int | None = None) -> None:
    """JSON allows numbers that nothing behind us can hold."""
    try:
        size = len(msgspec.json.encode(value))
    except (OverflowError, ValueError, TypeError, RecursionError):
        errors.append(FieldError(pointer, "range", "It holds a number that is out of range."))
        return
    if most_bytes is not None and size > most_bytes:
        errors.append(FieldError(pointer, "too_long", f"At most {most_bytes} bytes of JSON."))
