"""Time zones by their IANA names."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_SHAPE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*){0,2}")


def is_time_zone(name: str) -> bool:
    """True for `Asia/Shanghai` and `UTC`, as far as this machine's time zone data know it."""
    if len(name) > 64 or not _SHAPE.fullmatch(name):
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `Asia` is a folder
        return False
    return True
