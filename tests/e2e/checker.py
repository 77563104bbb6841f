"""The one judge of all faults: what the sandbox took, against what was accepted and what the timelines say.

Every 202 is there once and becomes final; for each time that it arrived beyond the first, its timeline says that a
hand-over was unknown and made again; what is called sent arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from sandbox.box import Box
from sandbox.record import Record
from tests.e2e.load import Sender

FINAL_WITHIN_S = 200.0
"""A killed worker's cohort is driven again after its lease of 60 s, and a lost mail is called unknown after a minute."""
STATES = """
SELECT n.id, n.status, n.reason, n.final, n.finished_at IS NOT NULL AS finished,
       EXISTS (SELECT FROM work w WHERE w.notification_id = n.id) AS open,
       (SELECT count(*) FROM event e WHERE e.notification_id = n.id AND e.type = 'unknown') AS unknowns,
       (SELECT count(*) FROM event e WHERE e.notification_id = n.id AND e.type = 'unknown'
        AND e.detail ->> 'then' = 'resend') AS resends,
       (SELECT count(*) FROM event e WHERE e.notification_id = n.id AND e.type = 'attempt'
        AND e.detail ->> 'class' = 'OK') AS successes
FROM notification n WHERE n.id = ANY ($1)"""
ARRIVED = {"sent", "delivered", "read"}


class Judged(Protocol):
    """A running service and its receivers."""

    box: Box

    async def connect(self) -> asyncpg.Connection: ...


async def check(
    *senders: Sender,
    parts: Judged,
    unknowns: bool = True,
    ends: Collection[str] = ("sent", "delivered"),
    within_s: float = FINAL_WITHIN_S,
) -> None:
    """Wait until all that was accepted is final, and judge. `unknowns`: hand-overs may have been lost; `ends`: statuses
    that are right besides unknown."""
    connection = await parts.connect()
    try:
        states = [
            (sender.name, state) for sender in senders for state in await _final(connection, sender, within_s=within_s)
        ]
        everything = await connection.fetchval("SELECT count(*) FROM idempotency WHERE key ~ $1", _keys(senders))
    finally:
        await connection.close()
    taken = _taken(parts.box.record)
    wrong = [
        f"{name} {state['id']}: {what}"
        for name, state in states
        for what in wrong_with(state, taken[str(state["id"])], unknowns=unknowns, ends=ends)
    ]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(states)}:", *wrong[:20]])
    sent = sum(len(sender.ids) for sender in senders)
    assert len({state["id"] for _, state in states}) == sent, "two requests were given one notification"
    assert everything == sent, f"{everything} keys are kept for {sent} requests"


def _keys(senders: Collection[Sender]) -> str:
    return f"^({'|'.join(sender.name for sender in senders)})-[0-9]+$"


async def _final(connection: asyncpg.Connection, sender: Sender, *, within_s: float) -> list[asyncpg.Record]:
    """Its notifications once all are final, or as they are when time is up. All that was answered 202 must be there."""
    ids, deadline = [UUID(i) for i in sender.ids.values()], time.monotonic() + within_s
    while True:
        states = await connection.fetch(STATES, ids)
        assert len(states) == len(set(ids)), f"{sender.name}: {len(set(ids)) - len(states)} of the accepted are not there"
        if all(s["final"] for s in states) or time.monotonic() > deadline:
            return list(states)
        await asyncio.sleep(0.5)


def _taken(record: Record) -> Counter[str]:
    """How often each notification's message was taken."""
    items, _ = record.find(limit=1_000_000)
    deliveries = (item.seen.delivery for item in items if item.seen.taken)
    return Counter(delivery.rpartition("-")[0] for delivery in deliveries if delivery is not None)


def wrong_with(
    state: asyncpg.Record | Mapping[str, Any], taken: int, *, unknowns: bool, ends: Collection[str]
) -> list[str]:
    """What is wrong with a notification in this state (a row of STATES), whose message was taken so many times."""
    status, lost, explained = state["status"], state["unknowns"], 1 + state["resends"]
    found = []
    if not state["final"]:
        found.append(f"not final: {status}")
    elif not state["finished"] or state["open"]:
        found.append(f"{status}, but a step of it is still open")
    elif status not in ends and not (lost and status == "unknown"):
        found.append(f"{status} ({state['reason']})")
    if lost and not unknowns:
        found.append("a hand-over was lost")
    if max(taken, state["successes"]) > explained:
        found.append(f"taken {taken} times, {state['successes']} successes, made again as unknown {state['resends']} times")
    if status in ARRIVED and not taken:
        found.append(f"{status}, but it never arrived")
    return found
