"""A provider that fails for everybody for a while and then recovers, with thousands of messages on their way to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from sandbox import behaviours, hook, mailbox
from sandbox.behaviours import Behaviour
from sandbox.record import Item
from tests.e2e.checker import check
from tests.e2e.load import Sender, hooks, mails
from tests.e2e.parts import Parts, until
from tests.e2e.test_outages import load

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(700)]
COUNT = 2000
PER_SECOND = 300
BURST_S = 8.0
"""Longer than a circuit stays open at first, so that a probe finds the provider as it was."""
SEEN_WITHIN_S = 120.0
FINAL_WITHIN_S = 400.0
"""A busy machine takes its time over thousands of them."""
DAY_S = 86_400
WAIT_S = 3
BUSY, FAILING, RATE = (behaviours.named(word) for word in ("busy", "http503", "http429"))
assert BUSY is not None
assert FAILING is not None
assert RATE is not None
BURSTS: Mapping[str, Behaviour] = {
    "burst421": BUSY,
    "burst503": FAILING,
    "burst429": replace(RATE, http_headers={"Retry-After": str(WAIT_S)}),
}
"""The word with which names begin, and what the provider answers while the burst lasts."""


@contextlib.asynccontextmanager
async def burst(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The sandbox answers whoever is named with one of our words like this; afterwards it takes what they get."""
    with monkeypatch.context() as patched:
        patched.setattr(mailbox, "of_mailbox", lambda address: BURSTS.get(address.partition("+")[0]))
        patched.setattr(hook, "of_hook", lambda name: BURSTS.get(name.partition("-")[0]))
        yield


def attempts(parts: Parts, word: str) -> list[Item]:
    """In the order in which they came."""
    items, _ = parts.box.record.find(limit=1_000_000)
    return [item for item in reversed(items) if item.seen.recipient.partition("+")[0].partition("-")[0] == word]


async def offered(parts: Parts, sender: Sender, word: str, *, priority: str) -> None:
    fields = {"priority": priority, "expires_in": DAY_S}
    if word == "burst421":
        bodies = mails(word, COUNT, **fields)
    else:
        bodies = hooks(word, COUNT, box_url=parts.box.http_url, **fields)
    await sender.offer(bodies, per_second=PER_SECOND)


async def test_a_mail_server_that_was_busy_is_left_alone_and_then_gets_everything_once(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its circuit opens, a probe finds it busy still, a later one finds it well. What waited meanwhile cost it nothing."""
    async with load(parts, "burst-mail") as sender:
        async with burst(monkeypatch):
            await offered(parts, sender, "burst421", priority="medium")
            await until(lambda: len(attempts(parts, "burst421")) > 0, within_s=SEEN_WITHIN_S)
            await asyncio.sleep(BURST_S)
        refused = len(attempts(parts, "burst421"))
        await check(sender, parts=parts, unknowns=False, ends={"sent"}, within_s=FINAL_WITHIN_S)
    assert refused < COUNT / 2, f"{refused} tries while it was busy"


async def test_hooks_that_fail_or_ask_to_wait_get_everything_once(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none that asked to wait is asked before its time."""
    async with load(parts, "burst-5xx") as failing, load(parts, "burst-429") as waiting:
        async with burst(monkeypatch):
            await asyncio.gather(
                offered(parts, failing, "burst503", priority="high"), offered(parts, waiting, "burst429", priority="medium")
            )
            for word in ("burst503", "burst429"):
                await until(lambda word=word: len(attempts(parts, word)) >= COUNT / 2, within_s=SEEN_WITHIN_S)  # type: ignore[misc]
        await check(failing, waiting, parts=parts, unknowns=False, ends={"delivered"}, within_s=FINAL_WITHIN_S)
    by_delivery: dict[str | None, list[Item]] = {}
    for item in attempts(parts, "burst429"):
        by_delivery.setdefault(item.seen.delivery, []).append(item)
    waits = [(b.received_at - a.received_at).total_seconds() for tries in by_delivery.values() for a, b in pairwise(tries)]
    assert len(waits) >= COUNT / 2
    assert min(waits) >= WAIT_S
