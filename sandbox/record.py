"""What the sandbox saw: in memory, bounded, newest first. Tests compare the service's own story with it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Any
from uuid import uuid4


class Verdict(StrEnum):
    """What became of one attempt."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    GREYLISTED = "greylisted"
    DROPPED = "dropped"
    """Taken, then the connection was closed or reset without an answer."""
    RESET = "reset"
    HUNG = "hung"
    """Read, and never answered nor taken."""
    ABANDONED = "abandoned"
    """The client went away before the slow answer: not taken."""
    GARBLED = "garbled"
    """Taken, but answered with something unreadable."""
    REDIRECTED = "redirected"


class Signature(StrEnum):
    VALID = "valid"
    INVALID = "invalid"
    UNCHECKED = "unchecked"
    """No secret is set, or the attempt ended before the signature could be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One attempt as a server saw it, before the record numbers it."""

    channel: str
    """`email` or `webhook`."""
    recipient: str
    """The e-mail address, or the name of the hook."""
    taken: bool
    """The sandbox has the message: answered with yes, or dropped after taking."""
    verdict: Verdict
    delivery: str | None = None
    """`<notification uuid>-<n>`; None where the attempt ended before the message was read."""
    why: str | None = None
    """For all but `accepted`: the reason."""
    answer: str | None = None
    """The reply that was given, in the protocol's words."""
    behaviour: str | None = None
    """The word that asked for it (`bounce`), where it was asked for."""
    signature: Signature | None = None
    """Webhook only."""
    subject: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes = b""


_BRIEF = tuple(one.name for one in fields(Seen) if one.name not in ("headers", "raw"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One recorded attempt."""

    seen: Seen
    attempt: int
    """How many times this delivery was seen, this one included."""
    id: str = field(default_factory=lambda: uuid4().hex)
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size(self) -> int:
        return len(self.seen.raw)

    def brief(self) -> dict[str, Any]:
        """The item as `GET /messages` lists it: no body."""
        return {
            "id": self.id,
            "attempt": self.attempt,
            "received_at": self.received_at.isoformat(timespec="milliseconds"),
            "size": self.size,
            **{name: getattr(self.seen, name) for name in _BRIEF},
        }


class Record:
    """All attempts; the newest `keep` of them (and at most `keep_bytes` of bodies) whole, the rest counted."""

    def __init__(self, *, keep: int = 50_000, keep_bytes: int = 256 * 1024 * 1024) -> None:
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._listeners: set[asyncio.Event] = set()
        self._start_over()

    def _start_over(self) -> None:
        self._items: deque[Item] = deque()
        self._by_id: dict[str, Item] = {}
        self._bytes = 0
        self._count = 0
        self._taken_count = 0
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._taken: Counter[str] = Counter()
        self._verdicts: Counter[Verdict] = Counter()

    def add(self, seen: Seen) -> Item:
        """Keep one attempt, number it, and wake the pages that watch."""
        attempt = 1
        if seen.delivery is not None:
            self._attempts[(seen.channel, seen.delivery)] += 1
            attempt = self._attempts[(seen.channel, seen.delivery)]
            if seen.taken:
                self._taken[seen.delivery] += 1
        item = Item(seen=seen, attempt=attempt)
        self._items.append(item)
        self._by_id[item.id] = item
        self._bytes += item.size
        self._count += 1
        self._taken_count += seen.taken
        self._verdicts[seen.verdict] += 1
        while len(self._items) > self._keep or (self._bytes > self._keep_bytes and len(self._items) > 1):
            oldest = self._items.popleft()
            del self._by_id[oldest.id]
            self._bytes -= oldest.size
        self._wake()
        return item

    def clear(self) -> None:
        self._start_over()
        self._wake()

    def get(self, item_id: str) -> Item | None:
        return self._by_id.get(item_id)

    def find(
        self,
        *,
        recipient: str | None = None,
        delivery: str | None = None,
        channel: str | None = None,
        query: str | None = None,
        limit: int = 100,
    ) -> tuple[list[Item], int]:
        """The newest `limit` kept items that match, and how many match in all.

        Without a filter the count includes those no longer kept. `delivery` is a prefix, so that a notification's id
        finds all its deliveries; `query` is part of recipient, subject, delivery or verdict.
        """
        tests: list[Callable[[Seen], bool]] = []
        if recipient is not None:
            name = recipient.rpartition("/hook/")[2].lower()
            tests.append(lambda seen: seen.recipient.lower() == name)
        if delivery is not None:
            tests.append(lambda seen: seen.delivery is not None and seen.delivery.startswith(delivery))
        if channel is not None:
            tests.append(lambda seen: seen.channel == channel)
        if query:
            words = query.lower().split()
            tests.append(lambda seen: all(word in _searched(seen) for word in words))
        newest: Iterator[Item] = reversed(self._items)
        if not tests:
            return list(islice(newest, limit)), self._count
        matching = [item for item in newest if all(test(item.seen) for test in tests)]
        return matching[:limit], len(matching)

    def stats(self) -> dict[str, Any]:
        """Totals since the start or the last emptying, those no longer kept included."""
        return {
            "count": self._count,
            "kept": len(self._items),
            "taken": self._taken_count,
            "distinct_deliveries": len({delivery for _, delivery in self._attempts}),
            "duplicates": [delivery for delivery, times in self._taken.items() if times > 1],
            "verdicts": dict(self._verdicts),
        }

    @property
    def count(self) -> int:
        return self._count

    def watch(self) -> asyncio.Event:
        """An event that is set whenever the record changes; give it back with `unwatch`."""
        event = asyncio.Event()
        self._listeners.add(event)
        return event

    def unwatch(self, event: asyncio.Event) -> None:
        self._listeners.discard(event)

    def _wake(self) -> None:
        for event in self._listeners:
            event.set()


def _searched(seen: Seen) -> str:
    return f"{seen.recipient} {seen.subject} {seen.delivery} {seen.verdict} {seen.channel}".lower()
