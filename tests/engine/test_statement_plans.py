"""Plans of the hot statements: no sequential scan over a large table, whatever the statistics say.

A connection keeps the plan that it once made, so that what was planned while a table was empty runs when it is full.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from domain.ids import uuid7
from infra.postgres.accept import slots
from infra.postgres.database import HOT_STATEMENTS
from infra.postgres.engine import (
    account_queue,
    admission,
    caps,
    chains,
    claims,
    cohorts,
    ends,
    giving_back,
    in_hand,
    linking,
    locks,
    lost_attempts,
    never_left,
    outcomes,
    parked,
    permits,
    plans,
    receipts,
    receiving,
    reopening,
    setting_aside,
    timeline,
)  # fmt: skip
from infra.postgres.lists import partials, user_stats
from infra.postgres.users import erasing, exporting

STATEMENTS = {
    "group, tenants in turn": cohorts._GROUP_ALL,
    "group, tenants that have few": cohorts._GROUP_FEW,
    "group, one tenant": cohorts._GROUP_ONE,
    "whether a lane is due": cohorts._IS_DUE,
    "release": cohorts._RELEASE,
    "what is left": cohorts._LEFT,
    "next due": cohorts._NEXT_DUE,
    "end of a cohort": cohorts._END,
    "wait for answers": cohorts._WAIT,
    "lock": locks._LOCK,
    "what nobody holds": locks._FREE,
    "enter": admission._ENTER,
    "take on": admission._ADMIT_ALL,
    "take on, tenants that have few": admission._ADMIT_FEW,
    "take no more": admission._STOP_ADMITTING,
    "persons": plans._PERSONS,
    "mandatory categories": plans._MANDATORY,
    "lock of the persons": caps._LOCK,
    "places taken": caps._USES,
    "take a place": caps._TAKE,
    "forget places": caps._FORGET,
    "write of the plan": plans._WRITE,
    "put off what is held": plans._PUT_OFF,
    "due accounts": account_queue._ACCOUNTS,
    "count of what is due": account_queue._DUE,
    "tenants": account_queue._TENANTS,
    "park": account_queue._PARK,
    "park what is blocked": account_queue._PARK_BLOCKED,
    "move": account_queue._MOVE,
    "parked: page": parked._PAGE,
    "parked: wake": parked._WAKE,
    "lease": permits._LEASE,
    "begin of a bucket": permits._BEGIN,
    "turns": permits._BOOK,
    "claim": claims._CLAIM,
    "claim of a probe": claims._CLAIM_PROBE,
    "claim of a probe that is not blocked": claims._CLAIM_OTHERS_PROBE,
    "claim of one": claims._CLAIM_ONE,
    "what is due, one by one": claims._DUE_KEYS,
    "what a lost reply took": claims._UNHEARD,
    "aside: look": setting_aside._LOOK,
    "aside": setting_aside._ASIDE,
    "aside: end": setting_aside._END,
    "aside: record": setting_aside._RECORD,
    "claim of what needs no call": claims._CLAIM_UNCALLED,
    "what needs no call, one by one": claims._UNCALLED_KEYS,
    "claim of what is not blocked": claims._CLAIM_OTHERS,
    "in hand": in_hand.IN_HAND_OF,
    "overdue": in_hand.OVERDUE,
    "lost": claims._LOST,
    "give back": giving_back._GIVE_BACK,
    "match": outcomes._MATCH,
    "again": outcomes._AGAIN,
    "next place": outcomes._OPEN,
    "write of outcomes": outcomes._WRITE,
    "events": timeline._WRITE,
    "closed": ends._CLOSED,
    "end of a notification": ends._END,
    "look again": outcomes._LOOK_AGAIN,
    "wait for what was taken": outcomes._AWAIT,
    "link": linking._LINK,
    "reported": receipts._REPORTED,
    "reported steps": receipts._STEPS,
    "messages": receipts._MESSAGES,
    "record of a receipt": receipts._RECORD,
    "stop waiting": receipts._STOP,
    "go on": receipts._GO_ON,
    "stop the rest": chains._STOP_OTHERS,
    "stop what came back": chains._STOP_THESE,
    "satisfied chains": chains._SATISFIED,
    "chained": chains._CHAINED,
    "leave a rest": chains._LEAVE,
    "forget a rest": chains._FORGET,
    "resumable": chains._RESUMABLE,
    "keep what may have arrived": lost_attempts._KEEP,
    "what may have arrived": lost_attempts._MAY_HAVE_ARRIVED,
    "called lost, and not begun": never_left._CALLED_LOST,
    "no try": never_left._NO_TRY,
    "open again": never_left._OPEN_AGAIN,
    "retrying again": never_left._RETRYING,
    "failed after all": never_left._FAILED,
    "not made": never_left._NOT_MADE,
    "resume": chains._RESUME,
    "reopen": chains._REOPEN,
    "reopen what is carried": chains._REOPEN_CARRIED,
    "what arrived in part": partials._FOUND,
    "open a part again": reopening._OPEN,
    "a part is not at its end": reopening._REOPEN,
    "nor is what it carries": reopening._REOPEN_CARRIED,
    "record of a part": reopening._RETRYING,
    "forget a failure that was reported": reopening._UNSAID,
    "told": receipts._TOLD,
    "find a message": receiving._FIND,
    "lock a message": receiving._LOCK,
    "write a message": receiving._WRITE,
    "windows that are over": receiving._OVER,
    "close windows": receiving._CLOSE,
    "forget messages": receiving._FORGET,
    "what is not sent twice: take": slots._TAKE,
    "what is not sent twice: look": slots._REPEATS,
    "what is not sent twice: a new try": slots._GO_OVER,
    "erasure: page": erasing._PAGE,
    "erasure: open steps": erasing._OPEN,
    "erasure: notifications": erasing._NOTIFICATIONS,
    "erasure: deliveries": erasing._DELIVERIES,
    "export: notifications": exporting._NOTIFICATIONS,
    "export: deliveries": exporting._DELIVERIES,
    "export: open steps": exporting._STEPS,
    "figures of a user": user_stats._COUNT,
}
FILL = """
WITH t AS (INSERT INTO tenant (id, name) SELECT 't' || k, 'x' FROM generate_series(0, 19) k ON CONFLICT DO NOTHING),
p AS (
    INSERT INTO person (tenant, id) SELECT 't' || k % 20, 'u' || k FROM generate_series(1, 20000) k
    ON CONFLICT DO NOTHING RETURNING tenant, id
),
i AS (
    INSERT INTO identity (id, tenant, person_id, channel, address)
    SELECT gen_random_uuid(), tenant, id, 'email', 'a@example.com' FROM p
),
f AS (INSERT INTO preference (tenant, person_id, choices, app) SELECT tenant, id, '{}', 'shop' FROM p),
c AS (
    INSERT INTO cap_use (tenant, person_id, notification_id, n, channel, category, at)
    SELECT tenant, id, ($1::uuid[])[1], 1, 'email', 'c', now() FROM p
),
g AS (
    INSERT INTO category (tenant, name, channels)
    SELECT 't' || k % 20, 'c' || k, '{email}' FROM generate_series(1, 2000) k
),
n AS (
    INSERT INTO notification (id, tenant, app, lane, category, channels, strategy, status, accepted_at, expires_at)
    SELECT i, 't' || k % 20, 'shop', k % 3, 'c', '{email}', 'all', 'accepted', now(), now() + interval '1 day'
    FROM unnest($1::uuid[]) WITH ORDINALITY x(i, k) RETURNING id, lane, tenant
),
w AS (
    INSERT INTO work (notification_id, n, tenant, lane, channel, due_at, expires_at, state, cohort, unknown_at)
    SELECT id, 1, tenant, lane, 'email', now(), now(), k % 2, CASE WHEN k % 4 > 0 THEN ($2::uuid[])[1 + k % 100] END,
           CASE WHEN k % 2 = 1 THEN now() + interval '1 minute' END
    FROM (SELECT *, row_number() OVER () AS k FROM n) m
),
d AS (
    INSERT INTO delivery (notification_id, n, tenant, channel, status) SELECT id, 2, tenant, 'inapp', 'sent' FROM n
),
r AS (INSERT INTO receipt_inbox (account, provider_id, notification_id, n, until) SELECT 'a', id, id, 1, now() FROM n),
e AS (INSERT INTO event (notification_id, id, n, at, type) SELECT id, id, 0, now(), 'planned' FROM n),
o AS (
    INSERT INTO dedupe (slot, tenant, notification_id, until, earlier)
    SELECT id::text::bytea, tenant, id, now(), CASE WHEN lane = 2 THEN ARRAY[id] END FROM n
)
INSERT INTO cohort (id, lane, epoch, size, lease) SELECT c, 1, 1, 500, now() FROM unnest($2::uuid[]) c"""
TABLES = "work, notification, delivery, event, person, identity, preference, cap_use, category, receipt_inbox, dedupe"
NODE = re.compile(rf"(Seq Scan|Index Scan|Index Only Scan|Bitmap Index Scan).* on ((?:{TABLES.replace(', ', '|')})\w*)")


@pytest.fixture(scope="module")
async def connection(module_database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(module_database, server_settings=HOT_STATEMENTS)
    await opened.execute("ALTER TABLE work SET (autovacuum_enabled = off)")
    yield opened
    await opened.close()


@pytest.fixture(
    scope="module", params=["empty", "empty when analysed", "full when analysed", "emptied after it was analysed"]
)
async def tables(request: pytest.FixtureRequest, connection: asyncpg.Connection[asyncpg.Record]) -> list[UUID]:
    """50,000 rows, or what the statistics say is 50,000 rows."""
    ids = [uuid7() for _ in range(50_000)]
    some = [uuid7() for _ in range(100)]
    await connection.execute(f"TRUNCATE {TABLES}, cohort CASCADE")
    if request.param in {"empty", "empty when analysed"}:
        await connection.execute(f"ANALYZE {TABLES}, cohort")
    if request.param == "empty":
        return ids
    await connection.execute(FILL, ids, some)
    if request.param == "full when analysed":
        await connection.execute(f"ANALYZE {TABLES}, cohort")
    if request.param == "emptied after it was analysed":
        await connection.execute(f"ANALYZE {TABLES}, cohort")
        await connection.execute("DELETE FROM work WHERE notification_id <> $1", ids[0])
    return ids


def sample(kind: str, ids: list[UUID]) -> Any:
    """An argument of this PostgreSQL type; arrays of 50, as a flush has them."""
    if kind.endswith("[]"):
        single = kind.removesuffix("[]")
        return ids[:50] if single == "uuid" else [sample(single, ids)] * 50
    return {
        "uuid": ids[0], "text": "email", "json": "{}", "bool": True, "int2": 1, "float8": 1.0, "int4": 4, "int8": 4,
        "interval": timedelta(minutes=1), "timestamptz": datetime.now(UTC),
        "bytea": b"slot",
    }[kind]  # fmt: skip


def whole_tables(explained: str) -> list[str]:
    """Tables of which the plan reads everything: sequential scans, and scans of an index without a condition."""
    nodes = re.split(r"\n *->  |\n *SubPlan|\n *InitPlan|\n *CTE", explained)
    found = [(NODE.search(node.splitlines()[0]), node) for node in nodes]
    return [m.group(2) for m, node in found if m and (m.group(1) == "Seq Scan" or "Index Cond" not in node)]


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_sequential_scan(
    name: str, tables: list[UUID], connection: asyncpg.Connection[asyncpg.Record]
) -> None:  # fmt: skip
    """Catches: joins that the planner may turn round. One became a scan of all work for each claim after a while: half the
    rate, and the machine at its limit."""
    statement = STATEMENTS[name]
    parameters = (await connection.prepare(statement)).get_parameters()
    arguments = [
        sample(p.name + "[]" if p.kind == "array" and not p.name.endswith("[]") else p.name, tables) for p in parameters
    ]
    plain = await connection.fetch("EXPLAIN " + statement, *arguments)
    await connection.execute("SET plan_cache_mode = force_generic_plan; PREPARE kept AS " + statement)
    generic = await connection.fetch(f"EXPLAIN EXECUTE kept({', '.join(['NULL'] * len(parameters))})")
    await connection.execute("RESET plan_cache_mode; DEALLOCATE kept")
    for explained in (plain, generic):
        text = "\n".join(line[0] for line in explained)
        assert not whole_tables(text), text


@pytest.mark.parametrize(
    "name", ["group, tenants in turn", "group, tenants that have few", "group, one tenant", "take on",
             "take on, tenants that have few", "whether a lane is due"],
)  # fmt: skip
async def test_tenants_are_walked_along_their_index(
    name: str, tables: list[UUID], connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Catches: a walk along another index, which sorts all that waits in the lane for each tenant that it meets."""
    parameters = (await connection.prepare(STATEMENTS[name])).get_parameters()
    await connection.execute("PREPARE walked AS " + STATEMENTS[name])
    explained = await connection.fetch(f"EXPLAIN EXECUTE walked({', '.join(['NULL'] * len(parameters))})")
    await connection.execute("DEALLOCATE walked")
    walk = "\n".join(line[0] for line in explained).partition("CTE turns")[2].partition("CTE met")[0]
    assert walk.count("using work_turn") == 2, walk
    assert "Sort" not in walk
    assert tables


async def test_what_waits_for_an_account_is_found_in_its_own_index(
    tables: list[UUID], connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Caught: each page of a wake read along all of `work`, nine seconds of a backlog of five million for nothing."""
    await connection.execute("PREPARE paged AS " + STATEMENTS["parked: page"])
    explained = await connection.fetch("EXPLAIN EXECUTE paged(NULL, NULL, NULL, NULL, NULL)")
    await connection.execute("DEALLOCATE paged")
    text = "\n".join(line[0] for line in explained)
    assert {m.group(1) for m in re.finditer(r"(?:using|Scan on) (work_\w+)", text)} == {"work_tried"}, text
    assert "Sort" not in text
    buffers = await connection.fetch("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) " + STATEMENTS["parked: page"],
                                     "email", None, UUID(int=0), 0, 500)  # fmt: skip
    found = re.search(r"Buffers: shared (?:hit=(\d+))?(?: read=(\d+))?", "\n".join(line[0] for line in buffers))
    assert sum(int(k or 0) for k in (found.groups() if found else ())) < 10, buffers
    assert tables


def test_whole_tables_are_recognised() -> None:
    """The reader of plans itself."""
    assert whole_tables("Update\n  ->  Seq Scan on work\n        Filter: x") == ["work"]
    assert whole_tables("Nested Loop\n  ->  Index Scan using work_pkey on work w\n  ->  Sort") == ["work"]
    assert whole_tables("Nested Loop\n  ->  Index Scan using work_pkey on work w\n        Index Cond: (a = b)") == []
    assert whole_tables("Seq Scan on cohort") == []
