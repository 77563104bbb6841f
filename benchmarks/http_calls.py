"""CPU of one webhook call: body, signature, guard, request and answer, by HTTP client.

One process calls the sandbox's lean sink, which has a process of its own, over 64 connections of each client. Rounds
alternate between the clients, and the figure is the median of their rounds: `time.process_time` of this process a call.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any, Protocol
from uuid import uuid4

import uvloop

from benchmarks import bodies
from benchmarks.http_ports import AiohttpPort, HttpxPort
from channels.base import Content, HttpPort, Message
from channels.memory import MemoryHttp
from channels.webhook.standard import WebhookProvider
from domain.channels import Channel
from domain.results import ResultClass
from infra.http import HttpClient
from infra.secrets import webhook_secret
from infra.ssrf import SsrfGuard
from sandbox.sink import SinkServer, Tally

CONNECTIONS = 64
LOOPBACK = ("127.0.0.0/8",)
FEWER = {"httpx": 10}
"""httpx gets fewer calls: its pool looks at every connection for every request, which takes more than a millisecond with
64 of them."""
SECRET_KEY = "benchmark-" * 4


class Port(HttpPort, Protocol):
    async def close(self) -> None: ...


class _NoNetwork(MemoryHttp):
    """What the adapter costs without any client: nothing is written, and no call is kept."""

    async def request(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Any:
        reply = await super().request(method, url, headers=headers, body=body, timeout_s=timeout_s)
        self.calls.clear()
        return reply


async def measure(*, quick: bool) -> dict[str, Any]:
    """Figures by client: `cpu_us_each` and `per_second` are medians of rounds; `ratio` is CPU against ours."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{await asyncio.to_thread(ours.recv)}/hook"
        return await _alternating(url, rounds=3 if quick else 9, calls=2_000 if quick else 6_000)
    finally:
        server.terminate()
        await asyncio.to_thread(server.join)


async def _alternating(url: str, *, rounds: int, calls: int) -> dict[str, Any]:
    guard = SsrfGuard(allow_networks=LOOPBACK)
    ports: dict[str, Port] = {
        "ours": HttpClient(connections=CONNECTIONS, allow_networks=LOOPBACK),
        "aiohttp": AiohttpPort(guard, connections=CONNECTIONS),
        "httpx": HttpxPort(guard, connections=CONNECTIONS),
        "no_network": _NoNetwork(),
    }
    providers = {
        name: WebhookProvider(port, secret_for=lambda tenant: webhook_secret(SECRET_KEY, tenant))
        for name, port in ports.items()
    }
    cpu_us: dict[str, list[float]] = {name: [] for name in ports}
    per_second: dict[str, list[float]] = {name: [] for name in ports}
    try:
        for place in range(rounds + 1):  # the first opens the connections, and does not count
            for name, provider in providers.items():
                count = calls // FEWER[name] if name in FEWER else calls
                cpu, wall = await _round(lambda p=provider: _send(p, url), calls=count)  # type: ignore[misc]
                if place:
                    cpu_us[name].append(cpu / count * 1e6)
                    per_second[name].append(count / wall)
    finally:
        for port in ports.values():
            await port.close()
    mine = statistics.median(cpu_us["ours"])
    return {
        "rounds": rounds,
        "calls_a_round": calls,
        "connections": CONNECTIONS,
        "clients": {
            name: {
                "cpu_us_each": round(statistics.median(cpu_us[name]), 1),
                "per_second": round(statistics.median(per_second[name])),
                "ratio": round(statistics.median(cpu_us[name]) / mine, 1),
            }
            for name in ports
        },
    }


async def _round(call: Callable[[], Awaitable[None]], *, calls: int) -> tuple[float, float]:
    """CPU and wall seconds of `calls` calls, as many at once as there are connections."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await call()

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
    return time.process_time() - cpu, time.perf_counter() - wall


async def _send(provider: WebhookProvider, url: str) -> None:
    now = datetime.now(UTC)
    message = Message(
        notification_id=uuid4(),
        n=1,
        attempt=1,
        tenant="bench",
        channel=Channel.WEBHOOK,
        address=url,
        content=Content(title=bodies.TITLE, text=bodies.TEXT),
        accepted_at=now,
        expires_at=now + timedelta(hours=1),
        metadata={"order": "20261123-0042"},
    )
    (result,) = await provider.send([message])
    if result.result is not ResultClass.OK:
        raise RuntimeError(f"the sink answers {result.code}")


def _serve(pipe: Connection) -> None:
    async def forever() -> None:
        pipe.send(await SinkServer(Tally()).start(host="127.0.0.1", port=0))
        await asyncio.Event().wait()

    uvloop.run(forever())
