"""A recorded message opened for people: headers, text, HTML, source."""

from __future__ import annotations

import json
from base64 import b64encode
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
        return {
            "headers": [(str(name), str(value)) for name, value in item.seen.headers],
            "text": pretty_json(raw),
            "html": None,
            "raw": raw,
        }
    message: Message = BytesParser(policy=policy.compat32).parsebytes(item.seen.raw)
    return {
        "headers": [(name, readable(str(value))) for name, value in message.items()],
        "text": _body(message, "text/plain"),
        "html": _body(message, "text/html"),
        "raw": raw,
    }


FRAME_HEAD = (
    "<!doctype html><meta charset=utf-8><base target=_blank>"
    "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; font-src data:; "
    "style-src 'unsafe-inline'\">"
    "<style>body{margin:16px;font:15px/1.6 system-ui,'PingFang SC','Microsoft YaHei','WenQuanYi Micro Hei',sans-serif;"
    "color:#1c1c1a;background:#fff;overflow-wrap:anywhere}img{max-width:100%}</style>"
)
"""Comes before a mail's own HTML: a policy set first can only be narrowed by what follows."""


def framed(item: Item) -> str | None:
    """The mail's HTML for a sandboxed frame's `srcdoc`, its own inline images filled in; None where there is none."""
    if item.seen.channel != "email":
        return None
    message: Message = BytesParser(policy=policy.compat32).parsebytes(item.seen.raw)
    html = _body(message, "text/html")
    if html is None:
        return None
    for part in message.walk():
        content_id = str(part.get("content-id", "")).strip().strip("<>")
        data = part.get_payload(decode=True)
        if content_id and isinstance(data, bytes) and part.get_content_maintype() == "image":
            inline = f"data:{part.get_content_type()};base64,{b64encode(data).decode()}"
            html = html.replace(f"cid:{content_id}", inline)
    return FRAME_HEAD + html


def pretty_json(text: str) -> str:
    """JSON indented for reading; anything else as it is."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


def _body(message: Message, content_type: str) -> str | None:
    """The first part of that type that is not an attachment, its lines ended as people's tools do."""
    for part in message.walk():
        if part.get_content_type() == content_type and part.get_content_disposition() != "attachment":
            data = part.get_payload(decode=True)
            if isinstance(data, bytes):
                return _text(data, charset=part.get_content_charset("utf-8")).replace("\r\n", "\n")
    return None


def _text(data: bytes, *, charset: str) -> str:
    try:
        return data.decode(charset, "replace")
    except LookupError:
        return data.decode("utf-8", "replace")
