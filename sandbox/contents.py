"""A recorded message opened for people: headers, text, HTML, source."""

from __future__ import annotations

import json
from email import policy
from email.message import Message
from email.parser import BytesParser
from typing import Any

from sandbox.mailbox import readable
from sandbox.record import Item


def opened(item: Item) -> dict[str, Any]:
    """`headers` (pairs, decoded), `text`, `html` (None where there is none) and `raw`."""
    raw = item.seen.raw.decode("utf-8", "replace")
    if item.seen.channel == "webhook":
        return {"headers": list(item.seen.headers), "text": pretty_json(raw), "html": None, "raw": raw}
    message: Message = BytesParser(policy=policy.compat32).parsebytes(item.seen.raw)
    return {
        "headers": [(name, readable(str(value))) for name, value in message.items()],
        "text": _body(message, "text/plain"),
        "html": _body(message, "text/html"),
        "raw": raw,
    }


def pretty_json(text: str) -> str:
    """JSON indented for reading; anything else as it is."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


def _body(message: Message, content_type: str) -> str | None:
    """The first part of that type that is not an attachment."""
    for part in message.walk():
        if part.get_content_type() == content_type and part.get_content_disposition() != "attachment":
            data = part.get_payload(decode=True)
            if isinstance(data, bytes):
                return _text(data, charset=part.get_content_charset("utf-8"))
    return None


def _text(data: bytes, *, charset: str) -> str:
    try:
        return data.decode(charset, "replace")
    except LookupError:
        return data.decode("utf-8", "replace")
