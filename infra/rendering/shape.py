"""The shape of a template's `contents`: locale -> channel or `default` -> block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from domain.channels import Channel
from domain.errors import FieldError
from domain.locales import canonical
from infra.rendering.limits import MAX_SOURCE_CHARS
from infra.rendering.variables import pointer

DEFAULT = "default"
CHANNEL_KEYS = frozenset(Channel) | {
    DEFAULT, "sms", "push", "webpush", "wechat", "qq", "wecom", "dingtalk", "feishu", "slack", "teams", "telegram",
}  # fmt: skip
"""What a locale may hold: blocks can be written before their channel exists."""
TEXT_KEYS = ("title", "text", "html", "url")
MAX_LOCALES = 100
MAX_KEYS = 40
MAX_DEPTH = 6


def shape_errors(contents: Any, *, prefix: str = "/contents") -> list[FieldError]:
    """Every place where `contents` is not of the shape above; template syntax is not looked at."""
    if not isinstance(contents, Mapping):
        return [FieldError(prefix, "type", "must be an object: locale, then channel, then its texts")]
    if not contents:
        return [FieldError(prefix, "required", "needs at least one locale")]
    if len(contents) > MAX_LOCALES:
        return [FieldError(prefix, "too_long", f"has at most {MAX_LOCALES} locales")]
    return [error for locale, channels in contents.items() for error in _locale_errors(locale, channels, prefix=prefix)]


def _locale_errors(locale: str, channels: Any, *, prefix: str) -> Iterator[FieldError]:
    here = pointer(prefix, locale)
    tag = canonical(locale)
    if tag is None:
        yield FieldError(here, "format", "is not a locale such as zh-CN or en")
    elif tag != locale:
        yield FieldError(here, "format", f"write this locale as {tag}")
    if not isinstance(channels, Mapping):
        yield FieldError(here, "type", "must be an object: a channel or `default`, then its texts")
        return
    if not channels:
        yield FieldError(here, "required", "needs `default` or a channel")
    for channel, block in channels.items():
        if channel not in CHANNEL_KEYS:
            yield FieldError(pointer(here, channel), "unknown_field", f"is none of {', '.join(sorted(CHANNEL_KEYS))}")
        else:
            yield from _block_errors(block, here=pointer(here, channel))


def _block_errors(block: Any, *, here: str) -> Iterator[FieldError]:
    if not isinstance(block, Mapping):
        yield FieldError(here, "type", "must be an object with title, text, html, url or the channel's own fields")
        return
    if not block:
        yield FieldError(here, "required", "needs at least one text")
    if len(block) > MAX_KEYS:
        yield FieldError(here, "too_long", f"has at most {MAX_KEYS} fields")
    for key, value in block.items():
        if key in TEXT_KEYS and not isinstance(value, str):
            yield FieldError(pointer(here, key), "type", "must be a string")
        else:
            yield from _value_errors(value, here=pointer(here, key), depth=1)


def _value_errors(value: Any, *, here: str, depth: int) -> Iterator[FieldError]:
    if isinstance(value, str) and len(value) > MAX_SOURCE_CHARS:
        yield FieldError(here, "too_long", f"has at most {MAX_SOURCE_CHARS} characters")
    if not isinstance(value, Mapping | list):
        return
    if depth >= MAX_DEPTH:
        yield FieldError(here, "too_deep", f"is nested at most {MAX_DEPTH} deep")
        return
    children = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, child in children:
        yield from _value_errors(child, here=pointer(here, key), depth=depth + 1)
