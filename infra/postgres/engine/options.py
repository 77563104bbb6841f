"""A notification's options as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec

from domain.attempts import Awaited
from domain.edits import GIVEN, Given, Times
from domain.lanes import POLICIES, Lane
from domain.states import Status


def options_of(stored: str | None) -> dict[str, Any]:
    """What was asked for; nothing, where that is not an object."""
    found = msgspec.json.decode(stored) if stored else None
    return found if isinstance(found, dict) else {}


def resends_unknown(options: Mapping[str, Any], *, lane: Lane) -> bool:
    """What may have arrived is sent again, as was asked for (`on_unknown`) or as its lane does."""
    asked = options.get("on_unknown")
    return POLICIES[lane].resend_unknown if asked is None else asked == "resend"


def fallback_wait(stored: str | None) -> timedelta | None:
    """`fallback_after` as stored; None where that is no time: whoever claims the step says so."""
    try:
        return None if stored is None else msgspec.convert(stored, timedelta)
    except msgspec.ValidationError:
        return None


def awaited_by(options: Mapping[str, Any]) -> Awaited | None:
    """What a notification's chain waits for, by its options."""
    after = options.get("fallback_after")
    if after is None:
        return None
    status = Status.READ if options.get("fallback_on") == "not_read" else Status.DELIVERED
    return Awaited(status, msgspec.convert(after, timedelta))


def times_of(row: asyncpg.Record) -> Times:
    """Of a notification: `lane`, `accepted_at`, `send_at`, `expires_at` and `options`."""
    options = options_of(row["options"])
    span = options.get("expires_in")
    return Times(
        Lane(row["lane"]), row["accepted_at"], row["send_at"], row["expires_at"],
        expires_in=None if span is None else msgspec.convert(span, timedelta),
        given=msgspec.convert(options.get(GIVEN, {}), Given), collected="digest" in options,
    )  # fmt: skip
