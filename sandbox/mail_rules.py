"""What a strict mail server checks in a message, after the final dot. Pure: bytes in, the reason for refusal out."""

from __future__ import annotations

import binascii
import codecs
import re
from base64 import b64decode
from collections import Counter
from datetime import datetime
from email import policy
from email.errors import MessageDefect
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from email.utils import getaddresses, parsedate_to_datetime

MAX_LINE = 998
"""Octets in a line without its CRLF (RFC 5322 2.1.1)."""
MAX_HEADERS = 200
MAX_HEADER_BYTES = 100 * 1024
"""Both about what common servers allow; a message of this service has some 20 headers in 2 KiB."""
MAX_PARTS = 200

REQUIRED = ("from", "date", "message-id")
SINGLE = (
    "from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "in-reply-to", "references",
    "mime-version", "content-type", "content-transfer-encoding", "content-disposition", "content-id",
    "list-unsubscribe", "list-unsubscribe-post", "list-id", "auto-submitted", "x-tongda-delivery",
)  # fmt: skip
"""At most once each (RFC 5322 3.6, RFC 2045, RFC 2369, RFC 8058)."""
ADDRESS_HEADERS = ("from", "sender", "reply-to", "to", "cc", "bcc")

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(
    rf"(?P<local>{_ATOM}(?:\.{_ATOM})*|\"(?:[^\"\\\r\n]|\\[ -~])*\")@"
    rf"(?P<domain>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.IPv]+\])"
)
_HEADER_LINE = re.compile(rb"[!-9;-~]+:")
_MESSAGE_ID = re.compile(r"<[^<>@\s]+@[^<>@\s]+>")
_ENCODED_WORD = re.compile(r"=\?([^?\s]*)\?([^?\s]*)\?([^?\s]*)\?=")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*\r\n|[ \t]*\Z)")


class Refused(Exception):
    """The message is refused; the text is the whole SMTP reply line."""


def is_address(text: str) -> bool:
    """Whether text is one e-mail address as RFC 5321 allows it without SMTPUTF8."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and len(match["local"]) <= 64 and len(match["domain"]) <= 253 and len(text) <= 254


def check(raw: bytes, *, eight_bit: bool) -> Message:
    """The parsed message, or Refused. `eight_bit`: the client announced BODY=8BITMIME."""
    head, body = _check_lines(raw)
    _check_head(head)
    if not eight_bit and not body.isascii():
        raise Refused("550 5.6.3 8-bit body without BODY=8BITMIME")
    message: Message = BytesParser(policy=policy.compat32).parsebytes(raw)
    _check_headers(message)
    _check_mime(message)
    return message


def parsed_head(raw: bytes) -> Message:
    """The headers of a message that may be broken, as far as they can be read."""
    head = raw.partition(b"\r\n\r\n")[0].decode("ascii", "replace").encode("ascii", "replace")
    message: Message = BytesParser(policy=policy.compat32).parsebytes(head, headersonly=True)
    return message


def _check_lines(raw: bytes) -> tuple[bytes, bytes]:
    """Head and body; Refused when the line structure is broken."""
    if _BARE.search(raw):
        raise Refused("550 5.5.2 Bare <LF> or <CR> in the message")
    if b"\0" in raw:
        raise Refused("550 5.6.0 NUL in the message")
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found and not head.endswith(b"\r\n"):
        raise Refused("550 5.6.0 No header section")
    longest = max((len(line) for line in raw.split(b"\r\n")), default=0)
    if longest > MAX_LINE:
        raise Refused(f"550 5.6.0 Line of {longest} octets, at most {MAX_LINE} are allowed")
    return head.removesuffix(b"\r\n"), body


def _check_head(head: bytes) -> None:
    """Bytes of the header section: ASCII, well-formed lines, a sane amount."""
    if not head.isascii():
        raise Refused("550 5.6.9 Non-ASCII bytes in the headers, and SMTPUTF8 was not offered")
    if len(head) > MAX_HEADER_BYTES:
        raise Refused(f"550 5.3.4 Headers of more than {MAX_HEADER_BYTES} octets")
    lines = head.split(b"\r\n")
    if sum(not line.startswith((b" ", b"\t")) for line in lines) > MAX_HEADERS:
        raise Refused(f"550 5.6.0 More than {MAX_HEADERS} header fields")
    for number, line in enumerate(lines):
        folded = line.startswith((b" ", b"\t"))
        if folded and number > 0 and line.strip():
            continue
        if folded or not _HEADER_LINE.match(line):
            raise Refused(f"550 5.6.0 Line {number + 1} of the headers is not a header field")


def _check_headers(message: Message) -> None:
    """The fields of RFC 5322: those that must be there, those that may be there once, and their form."""
    counts = Counter(name.lower() for name in message.keys())  # noqa: SIM118 - a Message's iterator yields duplicates once less clearly
    for name in REQUIRED:
        if not counts[name]:
            raise Refused(f"550 5.6.0 Header {name.title()} is missing")
    for name in SINGLE:
        if counts[name] > 1:
            raise Refused(f"550 5.6.0 Header {name.title()} appears {counts[name]} times")
    if not _MESSAGE_ID.fullmatch(_unfolded(message, "message-id")):
        raise Refused("550 5.6.0 Message-Id is not of the form <left@right>")
    if _date(_unfolded(message, "date")) is None:
        raise Refused("550 5.6.0 Date is not a date with a time zone")
    for name in ADDRESS_HEADERS:
        if counts[name]:
            _check_addresses(_unfolded(message, name), name=name)
    if len(getaddresses([_unfolded(message, "from")])) > 1 and not counts["sender"]:
        raise Refused("550 5.6.0 Several addresses in From need a Sender")
    for name, value in message.items():
        _check_encoded_words(str(value), name=name)
    if (counts["content-type"] or counts["content-transfer-encoding"]) and _unfolded(message, "mime-version") != "1.0":
        raise Refused("550 5.6.0 Content headers without MIME-Version: 1.0")


def _unfolded(message: Message, name: str) -> str:
    return re.sub(r"\r\n(?=[ \t])", "", str(message[name] or "")).strip()


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None


def _check_addresses(value: str, *, name: str) -> None:
    addresses = getaddresses([value])
    if not addresses or not all(is_address(address) for _, address in addresses if not value.rstrip().endswith(";")):
        raise Refused(f"550 5.1.3 Malformed address in header {name.title()}")


def _check_encoded_words(value: str, *, name: str) -> None:
    """RFC 2047: at most 75 characters, a known charset, B or Q that decodes."""
    for word in _ENCODED_WORD.finditer(value):
        charset, encoding, _ = word.groups()
        try:
            codecs.lookup(charset.partition("*")[0])
            str(make_header(decode_header(word[0])))
        except (LookupError, ValueError, binascii.Error, MessageDefect) as error:
            raise Refused(f"550 5.6.0 Encoded word in header {name} does not decode") from error
        if len(word[0]) > 75 or encoding.upper() not in ("B", "Q"):
            raise Refused(f"550 5.6.0 Malformed encoded word in header {name}")


def _check_mime(message: Message) -> None:
    """Every part parses, says its charset when it is text, and decodes."""
    for number, part in enumerate(message.walk()):
        if number >= MAX_PARTS:
            raise Refused(f"550 5.6.0 More than {MAX_PARTS} MIME parts")
        if part.defects:
            raise Refused(f"550 5.6.0 MIME does not parse: {type(part.defects[0]).__name__}")
        if part.is_multipart():
            if not part.get_payload():
                raise Refused("550 5.6.0 Multipart without parts")
        else:
            _check_leaf(part)


def _check_leaf(part: Message) -> None:
    encoding = str(part.get("content-transfer-encoding", "7bit")).strip().lower()
    data = _decoded(part, encoding=encoding)
    if encoding == "7bit" and not data.isascii():
        raise Refused("550 5.6.3 8-bit bytes in a part that says 7bit")
    if part.get_content_maintype() != "text":
        return
    charset = part.get_content_charset()
    if charset is None:
        raise Refused("550 5.6.0 Text part without charset")
    try:
        data.decode(charset)
    except (LookupError, ValueError) as error:
        raise Refused("550 5.6.0 Text part does not decode with its charset") from error


def _decoded(part: Message, *, encoding: str) -> bytes:
    """The part's bytes behind its transfer encoding, decoded strictly (the email package would guess)."""
    if encoding in ("7bit", "8bit"):
        data = part.get_payload(decode=True)
        return data if isinstance(data, bytes) else b""
    if encoding not in ("base64", "quoted-printable"):
        raise Refused("550 5.6.1 Unknown Content-Transfer-Encoding")
    try:
        coded = str(part.get_payload()).encode("ascii")
        if encoding == "base64":
            return b64decode(b"".join(coded.split()), validate=True)
    except ValueError as error:
        raise Refused(f"550 5.6.0 {encoding} does not decode") from error
    if _BAD_ESCAPE.search(coded):
        raise Refused("550 5.6.0 quoted-printable does not decode")
    return binascii.a2b_qp(coded)
