"""Cursors of lists of notifications: an id, and whether `q` was read as text."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from domain.errors import Invalid
from infra.postgres.lists.pages import Position

_TEXT = b"t"


def cursor_of(position: Position | None) -> str | None:
    """The cursor behind `position`; None for a last page."""
    if position is None:
        return None
    raw = position.before.bytes + (_TEXT if position.text else b"")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def position_of(cursor: str | None, *, place: str = "?cursor") -> Position | None:
    """Raises Invalid for what is no cursor."""
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        if raw[16:] in (b"", _TEXT):
            return Position(UUID(bytes=raw[:16]), text=raw[16:] == _TEXT)
    except (ValueError, binascii.Error):
        pass
    raise Invalid.field(place, "format", "Give back a next_cursor as it was.")
