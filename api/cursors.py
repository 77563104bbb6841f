"""Opaque list cursors: the last key of a page, so that nobody builds on what it is."""

from __future__ import annotations

import base64
import binascii

from api.problems import parameter_error
from domain.errors import Invalid


def encode_cursor(key: str) -> str:
    """The cursor behind `key`."""
    return base64.urlsafe_b64encode(key.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str | None) -> str | None:
    """The key in it. Raises Invalid for what is not a cursor."""
    if cursor is None:
        return None
    try:
        key = base64.b64decode((cursor + "=" * (-len(cursor) % 4)).encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise malformed() from None
    if "\x00" in key:
        raise malformed()
    return key


def malformed() -> Invalid:
    """The error for a cursor that did not come from here."""
    return parameter_error("cursor", "format", "Take the cursor from next_cursor of the page before.")
