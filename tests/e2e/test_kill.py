"""The whole service, started like a user does, killed in the middle of its work; judged by the receiver's own record."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import sandbox
from sandbox.box import Box
from tests.up.running import Instance

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(600)]

SENDS = 200
KILL_WORKERS_AT = 70
KILL_API_AT = 140
FINAL_WITHIN_S = 240.0


class Sender:
    """A sender that does what senders should: the same Idempotency-Key until it has an answer."""

    def __init__(self) -> None:
        self.ids: dict[int, str] = {}

    @asynccontextmanager
    async def connected(self, facts: dict[str, Any]) -> AsyncIterator[None]:
        key = await asyncio.to_thread(Path(facts["key_file"]).read_text)
        headers = {"Authorization": f"Bearer {key.strip()}"}
        async with httpx.AsyncClient(base_url=facts["api_url"], headers=headers, timeout=10) as self.http:
            yield

    async def send(self, number: int, body: dict[str, Any]) -> bool:
        try:
            answer = await self.http.post("/v1/notifications", json=body, headers={"Idempotency-Key": f"kill-{number}"})
        except httpx.TransportError:
            return False
        if answer.status_code in {200, 202}:
            self.ids[number] = answer.json()["id"]
            return True
        assert answer.status_code == 503, answer.text
        return False

    async def send_until_it_fails(self, numbers: list[int], *, box: Box) -> list[int]:
        """Send in order; what is left when the service stops answering."""
        for place, number in enumerate(numbers):
            if not await self.send(number, body_of(number, box=box)):
                return numbers[place:]
        return []


def body_of(number: int, *, box: Box) -> dict[str, Any]:
    """Mail and webhooks in all lanes; some of the mail is slow, so that a kill finds it in flight."""
    priority = ("high", "medium", "low")[number % 3]
    content = {"title": f"number {number}", "text": "x"}
    if number % 2:
        address = f"{box.http_url}/hook/n{number}"
        return {"to": {"channel": "webhook", "address": address}, "content": content, "priority": priority}
    name = "slow" if number % 10 == 0 else f"n{number}"
    return {"to": {"email": f"{name}@example.com"}, "content": content, "priority": priority}


@asynccontextmanager
async def started(home: Path, *, box: Box) -> AsyncIterator[tuple[Instance, dict[str, Any]]]:
    settings = {"TONGDA_SMTP_HOST": "127.0.0.1", "TONGDA_SMTP_PORT": str(box.smtp_port), "TONGDA_SMTP_SECURITY": "none"}
    instance = Instance(home, arguments=(), settings=settings)
    try:
        yield instance, await asyncio.to_thread(instance.until_ready)
    finally:
        instance.signal(signal.SIGTERM)
        await asyncio.to_thread(instance.wait)


async def until_final(client: Sender) -> dict[str, dict[str, Any]]:
    deadline, final = time.monotonic() + FINAL_WITHIN_S, dict[str, dict[str, Any]]()
    while len(final) < len(client.ids) and time.monotonic() < deadline:
        for notification_id in set(client.ids.values()) - final.keys():
            state = (await client.http.get(f"/v1/notifications/{notification_id}")).json()
            if state["final"]:
                final[notification_id] = state
        await asyncio.sleep(0.5)
    return final


async def called_unknown(client: Sender, notification_id: str) -> bool:
    timeline = (await client.http.get(f"/v1/notifications/{notification_id}/timeline")).json()
    return any(event["type"] == "unknown" for event in timeline["items"])


@pytest.fixture
def home() -> Iterator[Path]:
    """Where PostgreSQL's plain user can go too; pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="tongda-e2e-"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


async def test_killed_worker_and_killed_api_lose_nothing_and_send_nothing_twice_in_silence(home: Path) -> None:
    """Every 202 becomes final; each message arrived once, or its timeline says that it is not known."""
    left = list(range(SENDS))
    client = Sender()
    async with sandbox.running() as box:
        for kill_at, names in ((KILL_WORKERS_AT, ("workers-high", "workers")), (KILL_API_AT, ("api",))):
            async with started(home, box=box) as (instance, facts), client.connected(facts):
                rest = left[kill_at - (SENDS - len(left)) :]
                assert not await client.send_until_it_fails(left[: len(left) - len(rest)], box=box)
                sending = asyncio.create_task(client.send_until_it_fails(rest, box=box))
                await asyncio.sleep(0.05)
                for name in names:
                    os.kill(facts["processes"][name], signal.SIGKILL)
                left = await sending
                assert await asyncio.to_thread(instance.wait) == 1
                assert names[0] in instance.screen or names[-1] in instance.screen
                assert not instance.left()
        async with started(home, box=box) as (_, facts), client.connected(facts):
            assert not await client.send_until_it_fails(left, box=box)
            final = await until_final(client)
            await check(client, final=final, box=box)


async def check(client: Sender, *, final: dict[str, dict[str, Any]], box: Box) -> None:
    open_ = [number for number, i in client.ids.items() if i not in final]
    assert not open_, f"never final: {open_}"
    assert len(set(client.ids.values())) == SENDS
    for number, notification_id in client.ids.items():
        taken = sum(item.seen.taken for item in box.record.find(delivery=notification_id, limit=100)[0])
        if taken != 1:
            state = final[notification_id]
            assert await called_unknown(client, notification_id), f"number {number}: taken {taken} times, {state}"
