"""Durations in bodies that pydantic reads: ISO 8601 or seconds, as notifications take them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from api.accept.request import Span
from api.accept.rules import duration


def span_between(least: timedelta, most: timedelta) -> BeforeValidator:
    """Null stays null."""

    def span(value: Any) -> Any:
        if value is None:
            return None
        try:
            found = duration(msgspec.convert(value, Span))
        except (msgspec.ValidationError, OverflowError):
            raise PydanticCustomError("format", "A duration is ISO 8601, as in PT30S, or a number of seconds.") from None
        if not least <= found <= most:
            bounds = {"least": int(least.total_seconds()), "most": most.days}
            raise PydanticCustomError("range", "It lies between {least} seconds and {most} days.", bounds)
        return found

    return BeforeValidator(span)
