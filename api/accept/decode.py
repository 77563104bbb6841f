"""Bytes to a request, and msgspec's complaints to JSON pointers."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from api.accept.request import (
    BatchRequest,
    LetInRequest,
    NotificationPatch,
    NotificationRequest,
    OtpRequest,
    TestSendRequest,
)
from domain.channels import Channel
from domain.digests import First
from domain.errors import FieldError, Invalid, Malformed
from domain.lanes import Lane
from domain.states import Strategy

T = TypeVar("T")


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body without fields."""


_nothing = msgspec.json.Decoder(Nothing)
_one = msgspec.json.Decoder(NotificationRequest)
_batch = msgspec.json.Decoder(BatchRequest)
_patch = msgspec.json.Decoder(NotificationPatch)
_test_send = msgspec.json.Decoder(TestSendRequest)
_otp = msgspec.json.Decoder(OtpRequest)
_let_in = msgspec.json.Decoder(LetInRequest)

_AT = re.compile(r"^(?P<text>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"field `([^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")

_ALLOWED: dict[str, tuple[str, ...]] = {
    "priority": tuple(lane.label for lane in Lane),
    "channel": tuple(Channel),
    "channels": tuple(Channel),
    "strategy": tuple(Strategy),
    "on_unknown": ("hold", "resend"),
    "fallback_on": ("not_delivered", "not_read"),
    "first": tuple(First),
}
"""Field -> its values; a test holds them against the request's types."""

_CODES: tuple[tuple[str, str], ...] = (
    ("unknown field", "unknown_field"),
    ("missing required field", "required"),
    ("Invalid enum value", "not_allowed"),
    ("length", "length"),
    ("out of range", "range"),
    (">=", "range"),
    ("<=", "range"),
    ("Expected", "type"),
    ("Invalid", "format"),
)


def notification(raw: bytes | msgspec.Raw) -> NotificationRequest:
    """One notification. Raises Malformed or Invalid."""
    return _decode(_one, raw)


def batch(raw: bytes) -> list[msgspec.Raw]:
    """The items of a batch, undecoded. Raises Malformed or Invalid."""
    return _decode(_batch, raw).notifications


def patch(raw: bytes) -> NotificationPatch:
    """What an edit changes. Raises Malformed or Invalid."""
    return _decode(_patch, raw)


def test_send(raw: bytes) -> TestSendRequest:
    """A test-send: which version, to whom. Raises Malformed or Invalid."""
    return _decode(_test_send, raw)


def otp(raw: bytes) -> OtpRequest:
    """A one-time code that is asked for. Raises Malformed or Invalid."""
    return _decode(_otp, raw)


def let_in(raw: bytes) -> LetInRequest:
    """Whose wrong guesses are to be forgotten. Raises Malformed or Invalid."""
    return _decode(_let_in, raw)


def nothing(raw: bytes) -> None:
    """No body, or one without fields. Raises Malformed or Invalid."""
    if raw:
        _decode(_nothing, raw)


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise Invalid([field_error(str(error))]) from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.", code="too_deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"The body is not JSON that can be read: {_safe(str(error))}") from None


def field_error(message: str) -> FieldError:
    """Turn msgspec's "Expected `str`, got `int` - at `$.to.user`" as pointer, code and sentence."""
    match = _AT.match(message)
    text, path = (match["text"], match["path"] or "$") if match else (message, "$")
    pointer = "".join(f"/{_escaped(name or index)}" for name, index in _STEP.findall(path) if name or index)
    named = _FIELD.search(text)
    if named is not None and "field" in text:
        pointer += f"/{_escaped(named[1])}"
    code = next((code for word, code in _CODES if word in text), "invalid")
    return FieldError(pointer, code, _sentence(code, text, pointer=pointer))


def _sentence(code: str, text: str, *, pointer: str) -> str:
    if code == "unknown_field":
        return "There is no such field."
    if code == "required":
        return "This field is required."
    if "RFC3339" in text:
        return "A time with its offset, such as 2026-11-28T10:00:00+08:00."
    if code == "not_allowed":
        # msgspec quotes the value, which may be personal data and does not belong in an answer, and not what is allowed
        names = [step for step in pointer.split("/") if step and not step.isdecimal()]
        allowed = _ALLOWED.get(names[-1]) if names else None
        return f"One of: {', '.join(allowed)}." if allowed else "This value is not one of those allowed."
    return _safe(text)


def _safe(text: str) -> str:
    return text.replace("`", "")[:200]


def _escaped(name: str) -> str:
    """RFC 6901."""
    return name.replace("~", "~0").replace("/", "~1")
