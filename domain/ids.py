"""Identifiers: UUIDv7 (RFC 9562), so that an id's order is its time and a partition of ids is a partition of time."""

from __future__ import annotations

import os
import re
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, SafeUUID

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_TAILS = struct.Struct(">512Q")
"""Random numbers fetched at a time: a system call for each id would be a third of what it costs."""
_VARIANT, _RANDOM = 0b10 << 62, (1 << 62) - 1
_DELIVERY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([1-9][0-9]{0,3})(?:-([1-9][0-9]{0,4}))?", re.ASCII)
_lock = threading.Lock()
_last = 0
_tails: list[int] = []


def uuid7() -> UUID:
    """A UUIDv7, strictly increasing within this process.

    48 bits of Unix milliseconds, then 12 bits of sub-millisecond fraction (RFC 9562, method 3), then 62 random bits. When
    the clock stands still or steps back, the time part counts on from the last id instead.
    """
    global _last
    ms, rest = divmod(time.time_ns(), 1_000_000)
    stamp = (ms << 12) | (rest * 4096 // 1_000_000)
    with _lock:
        stamp = _last = stamp if stamp > _last else _last + 1
        if not _tails:
            _fetch()
        tail = _tails.pop()
    # Made as UUID's constructor does, without its checks of what may be given: they cost twice as much as all else here.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", ((stamp >> 12) << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | _VARIANT | tail)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


_forgotten_in_children = False


def _fetch() -> None:
    """New random numbers. A process that forks afterwards shares none of them."""
    global _forgotten_in_children
    if not _forgotten_in_children:
        os.register_at_fork(after_in_child=_tails.clear)
        _forgotten_in_children = True
    _tails.extend(number & _RANDOM for number in _TAILS.unpack(os.urandom(_TAILS.size)))


def delivery_of(text: str) -> tuple[UUID, int] | None:
    """The notification and step behind a delivery id, `<notification id>-<n>` as messages carry it; None: it is none."""
    named = referred(text)
    return named[:2] if named is not None and named[2] == 0 else None


def reference(notification_id: UUID, n: int, *, attempt: int) -> str:
    """Our own name of one hand-over: the delivery id and the attempt."""
    return f"{notification_id}-{n}-{attempt}"


def referred(text: str) -> tuple[UUID, int, int] | None:
    """Notification, step and attempt behind a reference, or behind a delivery id, where the attempt is 0. None: it is
    neither."""
    match = _DELIVERY.fullmatch(text)
    if match is None or int(match[3] or 0) >= 1 << 15:
        return None
    return UUID(match[1]), int(match[2]), int(match[3] or 0)


def uuid7_floor(at: datetime) -> UUID:
    """The smallest UUIDv7 of the millisecond `at`: the bound of a partition or of a `from` filter."""
    return UUID(int=((at - _EPOCH) // _MILLISECOND) << 80)


def uuid7_time(value: UUID) -> datetime:
    """The moment that an id was made, to the millisecond."""
    return _EPOCH + (value.int >> 80) * _MILLISECOND
