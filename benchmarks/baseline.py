"""`python -m benchmarks.baseline work|offer|both COUNT SINK`: one workflow for each notification, done with care.

What one would write without cohorts: notification and work row in one INSERT, a workflow with one activity, which claims
its row in one UPDATE, makes the same signed HTTP call by the same adapter and client, and records delivery, events and
the end in one statement. `work` and `offer` are processes of their own, with a remote activity; `both` is one process with
a local activity and eager start. Settings come from TONGDA_*; the tables are copies in the schema `baseline`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import uvloop
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks import bodies
from channels.base import Content, Message
from channels.webhook.standard import WebhookProvider
from domain.channels import Channel
from domain.ids import uuid7
from domain.results import ResultClass
from infra.http import HttpClient
from infra.postgres.database import Database
from infra.secrets import webhook_secret
from infra.settings import Settings
from infra.temporal import connect

QUEUE = "baseline"
IN_FLIGHT = 40
"""Workflows that are offered at a time: enough to keep two cores busy at 20-40 ms of CPU each."""
LIMIT = timedelta(seconds=30)

_ACCEPT = """
WITH n AS (
    INSERT INTO baseline.notification (id, tenant, app, lane, category, to_channel, to_address, channels, strategy, content,
                                       metadata, status, accepted_at, expires_at)
    VALUES ($1, 'main', 'demo', 2, '', 'webhook', $2, '{webhook}', 'all', $3, $4, 'accepted', now(), $5))
INSERT INTO baseline.work (notification_id, n, tenant, lane, channel, address, due_at, expires_at)
VALUES ($1, 1, 'main', 2, 'webhook', $2, now(), $5)"""

_CLAIM = """
WITH w AS (
    UPDATE baseline.work SET state = 1, attempt = attempt + 1, unknown_at = now() + interval '25 s'
    WHERE notification_id = $1 AND n = 1 AND state = 0 RETURNING notification_id, address, attempt, expires_at
), e AS (
    INSERT INTO baseline.event (notification_id, id, n, at, type, detail)
    SELECT notification_id, $2, 0, now(), 'planned', '{"channels":["webhook"]}' FROM w
)
SELECT w.*, n.content, n.metadata, n.accepted_at FROM w JOIN baseline.notification n ON n.id = w.notification_id"""

_RECORD = """
WITH w AS (DELETE FROM baseline.work WHERE notification_id = $1 AND n = 1),
d AS (
    INSERT INTO baseline.delivery (notification_id, n, tenant, channel, provider, account, address, status, class, code,
                                   attempts, provider_id, sent_at, delivered_at)
    VALUES ($1, 1, 'main', 'webhook', 'webhook', 'webhook-default', $2, $3, $4, $5, 1, $6, now(), now())
), e AS (
    INSERT INTO baseline.event (notification_id, id, n, at, type, detail) VALUES ($1, $7, 1, now(), 'attempt', $8)
)
UPDATE baseline.notification SET status = $3, final = true, finished_at = now() WHERE id = $1"""


@dataclass(frozen=True)
class One:
    """Input of the workflow and of its activity."""

    id: str
    local: bool


@workflow.defn(name="BaselineWorkflow")
class BaselineWorkflow:
    @workflow.run
    async def run(self, one: One) -> None:
        run = workflow.execute_local_activity if one.local else workflow.execute_activity
        await run("baseline-send", one, start_to_close_timeout=LIMIT)


class Sending:
    def __init__(self, pool: asyncpg.Pool, provider: WebhookProvider) -> None:
        self._pool = pool
        self._provider = provider

    @activity.defn(name="baseline-send")
    async def send(self, one: One) -> None:
        """Safe to repeat: a row that was claimed before is left alone."""
        row = await self._pool.fetchrow(_CLAIM, UUID(one.id), uuid7())
        if row is None:
            return
        content = json.loads(row["content"])
        message = Message(
            notification_id=row["notification_id"],
            n=1,
            attempt=row["attempt"],
            tenant="main",
            channel=Channel.WEBHOOK,
            address=row["address"],
            content=Content(title=content["title"], text=content["text"]),
            accepted_at=row["accepted_at"],
            expires_at=row["expires_at"],
            metadata=json.loads(row["metadata"]),
        )
        [result] = await self._provider.send([message])
        status = "delivered" if result.result is ResultClass.OK else "failed"
        detail = json.dumps({"attempt": row["attempt"], "channel": "webhook", "code": result.code, "status": status})
        await self._pool.execute(_RECORD, row["notification_id"], row["address"], status, result.result, result.code,
                                 result.provider_id, uuid7(), detail)  # fmt: skip


def _worker(client: Client, sending: Sending) -> Worker:
    return Worker(
        client,
        task_queue=QUEUE,
        workflows=[BaselineWorkflow],
        activities=[sending.send],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


async def _offer(client: Client, pool: asyncpg.Pool, *, count: int, sink: str, eager: bool) -> None:
    """Accept and start `count`, at most IN_FLIGHT at a time; says how long it took and what CPU this process used."""
    left = iter(range(count))
    content = json.dumps({"title": bodies.TITLE, "text": bodies.TEXT})
    metadata = json.dumps({"order": "20261123-0042"})
    expires_at = datetime.now(UTC) + timedelta(hours=72)

    async def lane() -> None:
        for _ in left:
            one = One(str(uuid7()), eager)
            await pool.execute(_ACCEPT, UUID(one.id), sink, content, metadata, expires_at)
            handle = await client.start_workflow(
                BaselineWorkflow.run, one, id=f"baseline-{one.id}", task_queue=QUEUE, request_eager_start=eager
            )
            await handle.result()

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
    took_s = time.perf_counter() - began
    print(json.dumps({"count": count, "took_s": took_s, "cpu_s": time.process_time() - cpu}), flush=True)


async def run(role: str, *, count: int, sink: str) -> None:
    settings = Settings()
    client, database = await connect(settings), await Database.open(settings, name="baseline")
    http = HttpClient.from_settings(settings)
    secret_key = "benchmark-" * 4
    provider = WebhookProvider(http, secret_for=lambda tenant: webhook_secret(secret_key, tenant))
    try:
        if role == "offer":
            await _offer(client, database.pool, count=count, sink=sink, eager=False)
            return
        async with _worker(client, Sending(database.pool, provider)):
            if role == "both":
                await _offer(client, database.pool, count=count, sink=sink, eager=True)
                return
            print("ready", flush=True)
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            await stop.wait()
    finally:
        await http.close()
        await database.close()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], count=int(sys.argv[2]), sink=sys.argv[3]))
