"""The one judge of all faults: what the sandbox took, against what was accepted and what the timelines say.

Every 202 is there once and becomes final; for each time that a step of it arrived beyond the first, its timeline says
that a hand-over was unknown and made again; a second place of a chain arrived only where the timeline says that it is
unknown whether the first one did; what is called sent arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import asyncpg

from sandbox.box import Box
from sandbox.record import Record
from tests.e2e.load import Sender

FINAL_WITHIN_S = 200.0
"""A killed worker's cohort is driven again after its lease of 60 s, and a lost mail is called unknown after a minute."""
STATES = """
SELECT n.id, n.status, n.reason, n.final, n.finished_at IS NOT NULL AS finished, n.strategy,
       EXISTS (SELECT FROM work w WHERE w.notification_id = n.id) AS open,
       (SELECT count(*) FROM event e WHERE e.notification_id = n.id AND e.type = 'unknown') AS unknowns,
       (SELECT count(*) FROM event e WHERE e.notification_id = n.id AND e.type = 'unknown'
        AND e.detail ->> 'then' = 'fallback') AS fallbacks,
       ARRAY(SELECT (d.n, d.status,
                     (SELECT count(*) FROM event e WHERE e.notification_id = n.id AND e.n = d.n AND e.type = 'unknown'
                      AND e.detail ->> 'then' = 'resend'),
                     (SELECT count(*) FROM event e WHERE e.notification_id = n.id AND e.n = d.n AND e.type = 'attempt'
                      AND e.detail ->> 'class' = 'OK'))
             FROM delivery d WHERE d.notification_id = n.id) AS steps
FROM notification n WHERE n.id = ANY ($1)"""
ARRIVED = {"sent", "delivered", "read"}


class Step(NamedTuple):
    """One delivery of a notification, as its record and its timeline tell of it."""

    n: int
    status: str
    resends: int
    """How often it was unknown and made again."""
    successes: int
    """Attempts that were answered with a success."""


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


def _taken(record: Record) -> Mapping[str, Counter[int]]:
    """How often the message of each step of each notification was taken."""
    items, _ = record.find(limit=1_000_000)
    taken = defaultdict[str, Counter[int]](Counter)
    for item in items:
        if item.seen.taken and item.seen.delivery is not None:
            notification, _, n = item.seen.delivery.rpartition("-")
            taken[notification][int(n)] += 1
    return taken


def wrong_with(
    state: asyncpg.Record | Mapping[str, Any], taken: Counter[int], *, unknowns: bool, ends: Collection[str]
) -> list[str]:
    """What is wrong with a notification in this state (a row of STATES), whose steps were taken so many times."""
    status, lost = state["status"], state["unknowns"]
    found = []
    if not state["final"]:
        found.append(f"not final: {status}")
    elif not state["finished"] or state["open"]:
        found.append(f"{status}, but a step of it is still open")
    elif status not in ends and not (lost and status == "unknown"):
        found.append(f"{status} ({state['reason']})")
    if lost and not unknowns:
        found.append("a hand-over was lost")
    steps = [Step(*step) for step in state["steps"]]
    for step in steps:
        times = taken[step.n]
        if max(times, step.successes) > 1 + step.resends:
            told = f"{step.successes} successes, made again as unknown {step.resends} times"
            found.append(f"{step.n} taken {times} times, {told}")
        if step.status in ARRIVED and not times:
            found.append(f"{step.n} {step.status}, but it never arrived")
    places = sum(1 for times in taken.values() if times)
    if state["strategy"] != "all" and places > 1 + state["fallbacks"]:
        found.append(f"arrived over {places} places of its chain")
    if status in ARRIVED and not places:
        found.append(f"{status}, but it never arrived")
    return found
