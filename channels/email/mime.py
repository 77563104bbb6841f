"""One e-mail as bytes: headers, a text part, and an HTML alternative where there is one.

Written by hand because it is on the hot path: `email.message.EmailMessage` takes about 2,000 us for a message that this
builds in about 30 (`benchmarks`, tests/channels/test_email_mime.py reads everything back with the standard library's
parser, which stays the oracle). Everything is ASCII with CRLF and lines of at most 76 characters (a long address alone
may pass that, below 300), so no server needs 8BITMIME and none may re-wrap a line.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import b2a_base64, b2a_qp
from dataclasses import dataclass

from channels.email.address import Sender, Unsendable, has_control

_NEWLINE = re.compile(r"\r\n|\r|\n")
_PLAIN_HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ]*[A-Za-z0-9])?")
_WORD_BYTES = 39  # 52 of base64, 12 of frame, 9 of "Subject: ": below the 76 of RFC 2047 for a line with encoded words
_BASE64_LINE_BYTES = 57  # 76 characters
_MAX_PLAIN = 66  # "Subject: " and this stay within 76


@dataclass(frozen=True, slots=True)
class Mail:
    """What one e-mail says. `recipient` is `wire_address`'s answer; `message_id` has no brackets."""

    sender: Sender
    recipient: str
    subject: str
    text: str
    html: str | None
    date: str
    """RFC 5322 form; `expires` too."""
    expires: str
    """When it says nothing any more (RFC 4021): programs that know the header sort it out or mark it."""
    message_id: str
    delivery_id: str


def build(mail: Mail) -> bytes:
    """The message, ready for DATA (not dot-stuffed). Raises Unsendable: header_injection, not_unicode."""
    if has_control(mail.subject):
        raise Unsendable("header_injection")
    try:
        head = _headers(mail)
        if mail.html is None:
            return head + _part("plain", mail.text)
        # The delivery id makes it unique among messages; a part cannot hold it, for "=_" is in neither base64 nor QP
        boundary = f"=_{mail.delivery_id}".encode("ascii")
        return b"".join((
            head, b'Content-Type: multipart/alternative; boundary="', boundary, b'"\r\n',
            b"\r\n--", boundary, b"\r\n", _part("plain", mail.text),
            b"\r\n--", boundary, b"\r\n", _part("html", mail.html),
            b"\r\n--", boundary, b"--\r\n",
        ))  # fmt: skip
    except UnicodeEncodeError:  # a lone surrogate: no Unicode text at all
        raise Unsendable("not_unicode") from None


def _headers(mail: Mail) -> bytes:
    return (
        f"From: {_mailbox(mail.sender)}\r\n"
        f"To: {mail.recipient}\r\n"
        f"Subject: {encode_header(mail.subject)}\r\n"
        f"Date: {mail.date}\r\n"
        f"Expires: {mail.expires}\r\n"
        f"Message-ID: <{mail.message_id}>\r\n"
        f"X-Tongda-Delivery: {mail.delivery_id}\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
    ).encode("ascii")


def _mailbox(sender: Sender) -> str:
    if not sender.name:
        return sender.address
    name = sender.name if _PLAIN_NAME.fullmatch(sender.name) else encode_header(sender.name, plain=False)
    return (
        f"{name}\r\n <{sender.address}>" if len(name) + len(sender.address) > _MAX_PLAIN else f"{name} <{sender.address}>"
    )


def encode_header(text: str, *, plain: bool = True) -> str:
    """`text` as a header's value: itself if it is short printable ASCII and `plain`, otherwise RFC 2047 encoded words."""
    if not text or (plain and len(text) <= _MAX_PLAIN and "=?" not in text and _PLAIN_HEADER.fullmatch(text)):
        return text
    raw = text.encode("utf-8")
    words: list[str] = []
    start = 0
    while start < len(raw):
        end = min(start + _WORD_BYTES, len(raw))
        while end < len(raw) and raw[end] & 0xC0 == 0x80:  # never inside a character
            end -= 1
        words.append(f"=?utf-8?b?{b64encode(raw[start:end]).decode('ascii')}?=")
        start = end
    return "\r\n ".join(words)


def _part(subtype: str, text: str) -> bytes:
    """Headers and body of one text part, ending in CRLF. Quoted-printable for mostly ASCII, otherwise base64."""
    raw = _NEWLINE.sub("\r\n", text).encode("utf-8")
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    # one character in six as =XX costs as much as base64
    encoding, body = (b"quoted-printable", _qp(raw)) if _mostly_ascii(text, len(raw)) else (b"base64", _base64(raw))
    kind = subtype.encode("ascii")
    return b"".join((
        b"Content-Type: text/", kind, b'; charset="utf-8"\r\nContent-Transfer-Encoding: ', encoding, b"\r\n\r\n", body,
    ))  # fmt: skip


def _mostly_ascii(text: str, size: int) -> bool:
    # every non-ASCII character has at least one byte beyond its first, so this undercounts by at most half
    return (size - len(text)) * 6 < size


def _qp(raw: bytes) -> bytes:
    return b2a_qp(raw, istext=True)


def _base64(raw: bytes) -> bytes:
    lines = [b2a_base64(raw[i : i + _BASE64_LINE_BYTES], newline=False) for i in range(0, len(raw), _BASE64_LINE_BYTES)]
    return b"\r\n".join(lines) + b"\r\n"
