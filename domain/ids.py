"""Identifiers: UUIDv7 (RFC 9562), so that an id's order is its time and a partition of ids is a partition of time."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_DELIVERY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([1-9][0-9]{0,3})", re.ASCII)
_RANDOM_BYTES = 4096
"""Fetched at a time: a system call for each id would be a third of what it costs."""
_lock = threading.Lock()
_last = 0
_random = b""
_used = 0
_owner = 0


def uuid7() -> UUID:
    """A UUIDv7, strictly increasing within this process.

    48 bits of Unix milliseconds, then 12 bits of sub-millisecond fraction (RFC 9562, method 3), then 62 random bits. When
    the clock stands still or steps back, the time part counts on from the last id instead.
    """
    global _last, _random, _used, _owner
    ns = time.time_ns()
    stamp = ((ns // 1_000_000) << 12) | ((ns % 1_000_000) * 4096 // 1_000_000)
    with _lock:
        stamp = _last = stamp if stamp > _last else _last + 1
        if _used >= len(_random) or _owner != os.getpid():  # a process that forked shares none of it
            _random, _used, _owner = os.urandom(_RANDOM_BYTES), 0, os.getpid()
        tail = int.from_bytes(_random[_used : _used + 8], "big") & ((1 << 62) - 1)
        _used += 8
    return UUID(int=((stamp >> 12) << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | (0b10 << 62) | tail)


def delivery_of(text: str) -> tuple[UUID, int] | None:
    """The notification and step behind a delivery id, `<notification id>-<n>` as messages carry it; None: it is none."""
    match = _DELIVERY.fullmatch(text)
    return (UUID(match[1]), int(match[2])) if match else None


def uuid7_floor(at: datetime) -> UUID:
    """The smallest UUIDv7 of the millisecond `at`: the bound of a partition or of a `from` filter."""
    return UUID(int=((at - _EPOCH) // _MILLISECOND) << 80)


def uuid7_time(value: UUID) -> datetime:
    """The moment that an id was made, to the millisecond."""
    return _EPOCH + (value.int >> 80) * _MILLISECOND
