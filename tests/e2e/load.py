"""A sender that does what senders should: one Idempotency-Key until it has an answer, the other process after a refusal."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

ANSWERED_WITHIN_S = 15.0
"""Any single request, whatever is broken: a caller's own limit."""
ACCEPTED_WITHIN_S = 240.0
AGAIN_S = 0.05
REACHED = ("http422-hook", "well-reached", "slow-hook")
"""Users; the hook of each has its name, and so the sandbox's word."""
ANSWERS = {httpx.codes.OK, httpx.codes.ACCEPTED}


@dataclass
class Sender:
    """`name` makes its keys and hooks its own."""

    name: str
    urls: Sequence[str]
    http: httpx.AsyncClient
    ids: dict[int, str] = field(default_factory=dict)
    """Number -> id of what was answered 202 (or 200, when a key was repeated)."""
    refused: int = 0
    """Tries that were answered 503."""
    broken: int = 0
    """Tries without an answer."""
    slowest_s: float = 0.0
    _numbers: int = 0

    async def offer(
        self, bodies: Iterable[dict[str, Any]], *, per_second: float, until: asyncio.Event | None = None
    ) -> None:
        """At a constant rate, whatever becomes of each; returns when all are accepted. With `until`: over and over, until
        it is set."""
        began_s, sending = time.monotonic(), []
        for place, body in enumerate(bodies if until is None else itertools.cycle(bodies)):
            if until is not None and until.is_set():
                break
            await asyncio.sleep(began_s + place / per_second - time.monotonic())
            sending.append(asyncio.create_task(self.send(body)))
        await asyncio.gather(*sending)

    async def send(self, body: dict[str, Any]) -> str:
        """Until it is accepted; the id. Raises AssertionError for any answer but 200, 202 and 503."""
        number, self._numbers = self._numbers, self._numbers + 1
        async with asyncio.timeout(ACCEPTED_WITHIN_S):
            turn = number
            while (answered := await self._try(self.urls[turn % len(self.urls)], body, number=number)) is None:
                turn += 1
        self.ids[number] = answered
        return answered

    async def _try(self, url: str, body: dict[str, Any], *, number: int) -> str | None:
        began_s = time.monotonic()
        try:
            headers = {"Idempotency-Key": f"{self.name}-{number}"}
            answer = await self.http.post(f"{url}/v1/notifications", json=body, headers=headers)
        except httpx.TimeoutException as error:
            raise AssertionError(f"{self.name} {number}: no answer within {ANSWERED_WITHIN_S:g} s") from error
        except httpx.TransportError:
            self.broken += 1
            await asyncio.sleep(AGAIN_S)
            return None
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            self.refused += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
            return None
        assert answer.status_code in ANSWERS, f"{self.name} {number}: {answer.status_code} {answer.text}"
        return str(answer.json()["id"])


@asynccontextmanager
async def sending(name: str, *, urls: Sequence[str], key: str) -> AsyncIterator[Sender]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, timeout=ANSWERED_WITHIN_S, trust_env=False, limits=limits) as http:
        yield Sender(name, urls, http)


def hooks(name: str, count: int, *, box_url: str, **fields: Any) -> list[dict[str, Any]]:
    """So many webhooks, each to a hook of its own; `name` begins with the sandbox's word where one is to be played."""
    return [
        {
            "to": {"channel": "webhook", "address": f"{box_url}/hook/{name}-{place}"},
            "content": {"title": f"{name} {place}", "text": "x"},
            **fields,
        }
        for place in range(count)
    ]


def mails(name: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    """So many e-mails; `name` as the address begins."""
    content = {"title": name, "text": "x"}
    return [{"to": {"email": f"{name}+{place}@example.com"}, "content": content, **fields} for place in range(count)]


def chains(count: int, **given: Any) -> list[dict[str, Any]]:
    """To users with a hook and a mailbox, in all lanes: a hook that refuses, one that takes, a slow one; over one place of
    a chain after the other, or over both."""
    made = []
    for place in range(count):
        lane, user = ("high", "medium", "low")[place % 3], REACHED[place // 3 % 3]
        strategy = ("fallback", "all")[place // 9 % 2]
        whom = {"to": {"user": user}, "channels": ["webhook", "email"], "strategy": strategy}
        made.append({**whom, "content": {"title": f"chain {place}", "text": "x"}, "priority": lane, **given})
    return made


async def add_users(url: str, *, key: str, box_url: str) -> None:
    """Whom `chains` writes to."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
        for user in REACHED:
            identities = [
                {"channel": "webhook", "address": f"{box_url}/hook/{user}"},
                {"channel": "email", "address": f"reached+{user}@example.com"},
            ]
            answer = await http.post(f"{url}/v1/users", json={"id": user, "identities": identities})
            assert answer.status_code == httpx.codes.CREATED, answer.text


async def add_accounts(url: str, *, key: str, host: str, port: int, closed: int) -> None:
    """Two mail accounts: the one that is to be used first is at a port where nobody listens."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
        for order, at in enumerate((closed, port)):
            settings = {"host": host, "port": at, "security": "none", "sender": "branch@example.com"}
            account = {"name": f"mail-{order}", "provider": "smtp", "settings": settings, "order": order}
            answer = await http.post(f"{url}/v1/providers", json=account)
            assert answer.status_code == httpx.codes.CREATED, answer.text


def mixed(name: str, count: int, *, box_url: str, **given: Any) -> list[dict[str, Any]]:
    """Mail and webhooks in all lanes; every tenth is slow, so that whatever happens finds some in flight."""
    made = []
    for place in range(count):
        word = f"slow-{name}" if place % 10 == 0 else name
        fields = {"priority": ("high", "medium", "low")[place % 3], **given}
        made += hooks(word, 1, box_url=box_url, **fields) if place % 2 else mails(word.replace("-", "+"), 1, **fields)
    return made
