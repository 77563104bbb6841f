"""A notification as it is stored, back as the request that it was: for edits, and for sending it again."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
from msgspec import UNSET

from api.accept.request import NotificationRequest
from domain.channels import Channel
from domain.errors import Conflict
from domain.lanes import Lane
from domain.trials import TEST


def posted(row: asyncpg.Record) -> NotificationRequest:
    """The request without its times: those were judged by the clock of their day. Raises msgspec.ValidationError where a
    row holds what this version no longer takes."""
    options = options_of(row)
    given: dict[str, Any] = {
        "to": _to(row),
        "channels": row["channels"] or UNSET,
        "strategy": row["strategy"],
        "template": row["template"],
        "content": _decoded(row["content"]),
        "data": _decoded(row["data"]),
        "metadata": _decoded(row["metadata"]),
        "priority": Lane(row["lane"]).label,
        "category": row["category"],
        "on_unknown": options.get("on_unknown"),
        "digest": options.get("digest"),
    }
    return msgspec.convert({k: v for k, v in given.items() if v is not None and v is not UNSET}, NotificationRequest)


def options_of(row: asyncpg.Record) -> dict[str, Any]:
    found = _decoded(row["options"])
    return found if isinstance(found, dict) else {}


def is_test(row: asyncpg.Record) -> bool:
    """A test-send made it: it may hold a draft, which nothing else sends."""
    return options_of(row).get(TEST) is True


def refuse_code(row: asyncpg.Record) -> None:
    """A one-time code's message lives and ends with its code. Raises Conflict `otp_message`."""
    if "otp" in options_of(row):
        raise Conflict("It carries a one-time code; see /v1/otp.", code="otp_message")


def _to(row: asyncpg.Record) -> dict[str, str]:
    if row["user_id"] is not None:
        return {"user": row["user_id"]}
    if row["to_channel"] == Channel.EMAIL:
        return {"email": row["to_address"]}
    return {"channel": row["to_channel"], "address": row["to_address"]}


def _decoded(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
