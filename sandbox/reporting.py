"""Receipts that a hook posts back: `/hook/receipt-<plan>-<milliseconds>`, to where webhook-reply-to points.

Signed as the specification asks, with the secret that the calls themselves are checked with. What is not taken (no answer,
5xx) is posted again twice, as a careful receiver would.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import aiohttp

TRIES = 3
RETRY_S = 0.2
TIMEOUT_S = 5.0
DEFAULT_MS = 100
MOST_MS = 600_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What one word reports, in this order."""

    reports: tuple[Mapping[str, str], ...]
    early: bool = False
    """Before the call itself is answered."""
    forged: bool = False
    """Signed with another secret."""
    cut: bool = False
    """The call itself is never answered: it is read, and the connection is closed."""


_SENT, _DELIVERED, _READ = ({"status": status} for status in ("sent", "delivered", "read"))
_FAILED = {"status": "failed", "class": "RETRY", "code": "out-of-reach"}
PLANS: Mapping[str, Plan] = {
    "delivered": Plan((_DELIVERED,)),
    "read": Plan((_DELIVERED, _READ)),
    "failed": Plan((_FAILED,)),
    "dead": Plan(({"status": "failed", "class": "RECIPIENT", "code": "gone"},)),
    "refused": Plan(({"status": "failed", "class": "PERMANENT", "code": "content"},)),
    "early": Plan((_DELIVERED,), early=True),
    "twice": Plan((_DELIVERED, _DELIVERED)),
    "disorder": Plan((_READ, _DELIVERED, _SENT)),
    "forged": Plan((_DELIVERED,), forged=True),
    "cut": Plan((_DELIVERED,), cut=True),
    "cutfailed": Plan((_FAILED,), cut=True),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What a hook's name asks for."""

    plan: Plan
    wait_s: float


def ordered(name: str) -> Order | None:
    """`receipt-delivered-500`: this plan, half a second after the answer. None: another name, or no such plan."""
    word, _, rest = name.lower().partition("-")
    plan, _, wait = rest.partition("-")
    if word != "receipt" or plan not in PLANS:
        return None
    digits = wait.partition("-")[0]
    ms = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 7 else DEFAULT_MS
    return Order(PLANS[plan], min(ms, MOST_MS) / 1000)


class Reporter:
    """Posts receipts, in the background where they are not early."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers: list[int] = []
        """Status of each post, in order; 0: no answer."""

    async def ask(self, order: Order, *, delivery: str, url: str) -> None:
        """Report as ordered. Returns at once, unless what is reported is early."""
        reporting = self._report(order, delivery=delivery, url=url)
        if order.plan.early:
            await reporting
            return
        task = asyncio.create_task(reporting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _report(self, order: Order, *, delivery: str, url: str) -> None:
        if not order.plan.early:
            await asyncio.sleep(order.wait_s)
        key = self._key or b""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as http:
            for report in order.plan.reports:
                body = json.dumps({"id": delivery, **report, "at": datetime.now(UTC).isoformat()}).encode()
                await self._post(http, url, body, key=b"somebody else's" if order.plan.forged else key)

    async def _post(self, http: aiohttp.ClientSession, url: str, body: bytes, *, key: bytes) -> None:
        for _ in range(TRIES):
            status = 0
            try:
                async with http.post(url, data=body, headers=_signed(body, key=key), allow_redirects=False) as answer:
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass  # nobody there, or no address
            self.answers.append(status)
            if 0 < status < 500:
                return
            await asyncio.sleep(RETRY_S)


def _signed(body: bytes, *, key: bytes) -> dict[str, str]:
    name, stamp = f"rcpt_{uuid4().hex}", str(int(time.time()))
    digest = hmac.new(key, b".".join((name.encode(), stamp.encode(), body)), hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{b64encode(digest).decode()}",
    }
