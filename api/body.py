"""What every JSON body must be before anybody decodes it: UTF-8, without NUL and half characters, and not too deep.

PostgreSQL stores neither NUL nor half a surrogate pair, and a parser that recurses can be driven to its limit; both have
to be found before anything is stored. The checks run at C speed over ordinary bodies: a small one costs about a
microsecond, a batch of 200 kB with escapes two milliseconds. Where in the document it is wrong is only computed when it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from domain.errors import Malformed, TooLarge, UnsupportedMedia

MOST_BYTES = 1024 * 1024
MOST_DEPTH = 32

_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_ANY_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"?|[\[\]{},:]', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

Headers = Iterable[tuple[bytes, bytes]]


def check_headers(headers: Headers) -> int | None:
    """The body's declared length. Raises UnsupportedMedia, TooLarge."""
    media, encoding, length = b"", b"", None
    for name, value in headers:
        if name == b"content-type":
            media = value
        elif name == b"content-encoding":
            encoding = value
        elif name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 19 else None
    if length is not None and length > MOST_BYTES:
        raise too_large()
    if not is_json(media) or encoding.strip().lower() not in {b"", b"identity"}:
        raise UnsupportedMedia
    return length


def is_json(media: bytes) -> bool:
    """True for application/json and application/<anything>+json, in UTF-8."""
    kind, _, parameters = media.lower().partition(b";")
    kind = kind.strip()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        return False
    charset = parameters.partition(b"charset=")[2].strip(b' "').partition(b";")[0].strip(b' "')
    return charset in {b"", b"utf-8", b"utf8", b"us-ascii"}


def too_large() -> TooLarge:
    return TooLarge(f"A body has at most {MOST_BYTES} bytes.")


def check_json(raw: bytes) -> None:
    """Raises Malformed, with a JSON pointer where the place can be told. Whether it is JSON at all, the decoder says."""
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            message = f"The body is not valid UTF-8 (byte {error.start})."
            raise Malformed(message, pointer=pointer_at(raw, error.start), code="invalid_utf8") from None
    nul = raw.find(b"\x00")
    if nul >= 0:
        raise Malformed("The body holds a NUL character.", pointer=pointer_at(raw, nul), code="nul_character")
    if _SUSPECT.search(raw):
        _check_escapes(raw)
    if raw.count(b"[") + raw.count(b"{") > MOST_DEPTH and _deeper_than(raw, MOST_DEPTH):
        at = _place_of_depth(raw, MOST_DEPTH + 1)
        message = f"The body is nested deeper than {MOST_DEPTH} levels."
        raise Malformed(message, pointer=pointer_at(raw, at), code="too_deep")


def decoded_strictly(raw: bytes) -> Any:
    """Strict JSON: no NaN, no number out of range. Raises Malformed. For routes whose own decoder is more lenient."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError:
        raise Malformed("The body holds a number that is out of range.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.DecodeError) else "not UTF-8 or too deep"
        raise Malformed(f"The body is not JSON that can be read: {reason}") from None


def _check_escapes(raw: bytes) -> None:
    """NUL and half surrogate pairs, written as escapes."""
    high_ends = -1
    for match in _ESCAPE.finditer(raw):
        unit = int(match[1], 16) if match[1] else -1
        pairs = high_ends == match.start()
        if high_ends >= 0 and not (pairs and 0xDC00 <= unit <= 0xDFFF):
            raise _half(raw, high_ends)
        if unit == 0:
            pointer = pointer_at(raw, match.start())
            raise Malformed("The body holds a NUL character (\\u0000).", pointer=pointer, code="nul_character")
        if 0xDC00 <= unit <= 0xDFFF and not pairs:
            raise _half(raw, match.start())
        high_ends = match.end() if 0xD800 <= unit <= 0xDBFF else -1
    if high_ends >= 0:
        raise _half(raw, high_ends)


def _half(raw: bytes, at: int) -> Malformed:
    message = "The body holds half of a surrogate pair, which is no character."
    return Malformed(message, pointer=pointer_at(raw, at - 1), code="invalid_utf8")


def _deeper_than(raw: bytes, depth: int) -> bool:
    """Strings are cut out, and each pass takes the innermost pair of brackets away: what is left after `depth` passes is
    deeper (or not balanced, which the exact look-up and the decoder tell apart)."""
    brackets = outside_strings(raw).translate(_TO_SQUARE, delete=_NOT_BRACKETS)
    for _ in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets) and _place_of_depth(raw, depth + 1) >= 0


def outside_strings(raw: bytes) -> bytes:
    """What of a JSON text stands in no string; quotes are left out."""
    return b"".join((_ANY_ESCAPE.sub(b"", raw) if b"\\" in raw else raw).split(b'"')[::2])


def tokens(raw: bytes) -> Iterator[re.Match[bytes]]:
    """Its strings, brackets, colons and commas."""
    return _TOKEN.finditer(raw)


def _place_of_depth(raw: bytes, depth: int) -> int:
    """Offset of the first bracket that opens this depth; -1 if there is none."""
    level = 0
    for match in _TOKEN.finditer(raw):
        token = match[0]
        if token in b"[{":
            level += 1
            if level == depth:
                return match.start()
        elif token in b"]}":
            level -= 1
    return -1


def pointer_at(raw: bytes, offset: int) -> str:
    """JSON pointer of the value or name that the byte at `offset` belongs to; as far as the document can be followed."""
    path: list[str | int] = []
    name = ""
    for match in _TOKEN.finditer(raw):
        token = match[0]
        if token.startswith(b'"'):
            name = match[1].decode(errors="replace")
        if match.end() > offset:
            break
        if token == b"{":
            path.append("")
        elif token == b"[":
            path.append(0)
        elif token in b"]}":
            if path:
                path.pop()
        elif token == b":" and path:
            path[-1] = name
        elif token == b"," and path:
            top = path[-1]
            path[-1] = top + 1 if isinstance(top, int) else ""
    return "".join(f"/{escaped(str(part))}" for part in path if part != "")


def escaped(name: str) -> str:
    """One step of a JSON pointer (RFC 6901), shortened and without what does not belong in an answer."""
    return "".join(c for c in name[:100] if c.isprintable()).replace("~", "~0").replace("/", "~1")
