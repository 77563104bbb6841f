"""A name that an object holds twice: parsers keep the last one, the first one or both, so that a gateway in front may judge
another request than the one that is followed.

Not asked on `POST /v1/notifications` and `/batch`: their decoder does not tell it, and the cheapest exact way takes 2 to
3 % of what a request costs (docs/performance.md). There each is checked, and the last one counts.
"""

from __future__ import annotations

from typing import Any

import msgspec

from api.body import outside_strings, pointer_at, tokens
from domain.errors import Malformed


def check_names(raw: bytes, decoded: Any) -> None:
    """`decoded` is what `raw`, which is valid JSON, was decoded to, its objects as dicts. Raises Malformed.

    Each member that was written has one colon outside of strings, and each that was kept is in a dict: exact, and without
    looking at a single name as long as none is there twice.
    """
    colons = raw.count(b":")
    if colons == 0:
        return
    kept = _members(decoded)
    if colons != kept and outside_strings(raw).count(b":") != kept:
        pointer = pointer_at(raw, _behind_repeated(raw))
        raise Malformed("An object holds this name twice; give it once.", pointer=pointer, code="repeated_name")


def _members(decoded: Any) -> int:
    found, open_ = 0, [decoded]
    while open_:
        value = open_.pop()
        if isinstance(value, dict):
            found += len(value)
            open_ += [inner for inner in value.values() if isinstance(inner, dict | list)]
        elif isinstance(value, list):
            open_ += [inner for inner in value if isinstance(inner, dict | list)]
    return found


def _behind_repeated(raw: bytes) -> int:
    """Offset behind the colon of the first name that its object holds already."""
    open_: list[set[str]] = []
    written = b'""'
    for match in tokens(raw):
        token = match[0]
        if token.startswith(b'"'):
            written = token
        elif token in (b"{", b"["):
            open_.append(set())
        elif token in (b"}", b"]"):
            open_.pop()
        elif token == b":":
            name = msgspec.json.decode(written, type=str)  # "a" and "\\u0061" are one name
            if name in open_[-1]:
                return match.end()
            open_[-1].add(name)
    raise AssertionError("no name is there twice")
