"""CPU of one message on the sending path, against servers in a process of their own.

    .venv/bin/python -m tests.channels.measure [smtp|webhook|mime] [--count 20000] [--loop uvloop|asyncio]

Prints microseconds of CPU of this process for each message (user + system, `time.process_time`), and messages a second.
Nothing is asserted: figures belong in docs/performance.md, with the machine they come from.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from uuid import uuid4

import uvloop
from aiohttp import web

from channels.base import Content, Message, Provider
from channels.email.smtp import SmtpProvider
from channels.memory import MemorySmtp
from channels.webhook.standard import WebhookProvider
from domain.channels import Channel
from infra.http import HttpClient
from infra.settings import SmtpSecurity
from infra.smtp import SmtpPool, SmtpServer
from tests.channels.lean_smtp import lean_smtp

SECRET = "whsec_" + "A" * 43 + "="


def message(channel: Channel, address: str) -> Message:
    now = datetime.now(UTC)
    content = Content(
        title="您的验证码 123456", text="您好，验证码 123456。\n" * 5, html="<p>您好，验证码 <b>123456</b></p>" * 5
    )
    return Message(uuid4(), 1, 1, "acme", channel, address, content, now, now + timedelta(hours=1))


async def _serve_smtp(pipe: Connection, *, pipelining: bool) -> None:
    async with lean_smtp(pipelining=pipelining) as lean:
        pipe.send(lean.port)
        while True:
            await asyncio.sleep(0.5)
            lean.taken.clear()
            lean.commands.clear()


async def _serve_http(pipe: Connection) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    pipe.send(runner.addresses[0][1])
    await asyncio.Event().wait()


def _server(kind: str, pipe: Connection) -> None:
    uvloop.run(_serve_http(pipe) if kind == "webhook" else _serve_smtp(pipe, pipelining=kind == "smtp-pipelined"))


async def _drive(provider: Provider, make: Callable[[], Message], *, count: int, width: int) -> None:
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            (result,) = await provider.send([make()])
            assert result.result == "OK", result

    await asyncio.gather(*(worker() for _ in range(width)))


async def _figure(name: str, drive: Callable[[int], Awaitable[None]], *, count: int) -> None:
    await drive(count // 10)
    wall, cpu = time.perf_counter(), time.process_time()
    await drive(count)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<24} {cpu / count * 1e6:7.0f} us CPU a message  {count / wall:8.0f} a second")


async def _smtp(kind: str, port: int, *, count: int) -> None:
    pool = SmtpPool(SmtpServer(host="127.0.0.1", port=port, security=SmtpSecurity.NONE, connections=16))
    provider = SmtpProvider(pool, sender="通达 <notify@tongda.example>")
    await _figure(
        kind,
        lambda n: _drive(provider, lambda: message(Channel.EMAIL, "someone@example.com"), count=n, width=16),
        count=count,
    )
    await provider.close()


async def _webhook(port: int, *, count: int) -> None:
    http = HttpClient(connections=64, allow_networks=("127.0.0.0/8",))
    provider = WebhookProvider(http, secret_for=lambda tenant: SECRET)
    url = f"http://127.0.0.1:{port}/"
    await _figure(
        "webhook", lambda n: _drive(provider, lambda: message(Channel.WEBHOOK, url), count=n, width=64), count=count
    )
    await http.close()


async def _mime(*, count: int) -> None:
    provider = SmtpProvider(MemorySmtp(), sender="通达 <notify@tongda.example>")
    await _figure(
        "e-mail without network",
        lambda n: _drive(provider, lambda: message(Channel.EMAIL, "someone@example.com"), count=n, width=1),
        count=count,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=["mime", "smtp", "smtp-pipelined", "webhook"])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    args = parser.parse_args()
    run = uvloop.run if args.loop == "uvloop" else asyncio.run
    for kind in args.kinds:
        if kind == "mime":
            run(_mime(count=args.count))
            continue
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=_server, args=(kind, theirs), daemon=True)
        server.start()
        port = ours.recv()
        run(_webhook(port, count=args.count) if kind == "webhook" else _smtp(kind, port, count=args.count))
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
