"""A sandbox that runs: both servers and the record they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from sandbox.http import application
from sandbox.inbox import InboxPage
from sandbox.pages import HERE, MessagesPage, Places, Shell
from sandbox.record import Record
from sandbox.settings import Settings
from sandbox.sink import SinkServer, Tally
from sandbox.smtp import SmtpServer
from sandbox.tongda import Tongda


@dataclass(frozen=True, slots=True)
class Box:
    """Where everything is, and what was seen."""

    host: str
    smtp_port: int
    http_port: int
    record: Record
    sink_port: int | None = None

    @property
    def http_url(self) -> str:
        return f"http://{self.host}:{self.http_port}"


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Box]:
    """Listen until the block ends, then stop at once. Raises OSError when a port is taken."""
    record = Record(keep=settings.keep, keep_bytes=settings.keep_bytes)
    async with AsyncExitStack() as stack:
        smtp = SmtpServer(settings, record=record)
        stack.push_async_callback(smtp.close)
        await smtp.start()
        tally = Tally()
        tongda = Tongda(url=settings.api_url, key_file=settings.key_file)
        shell = Shell(settings, tongda=tongda)
        app = application(settings, record=record, tally=tally, smtp_listens=lambda: smtp.listening)
        app.add_routes([*MessagesPage(record, shell=shell).routes(), *InboxPage(tongda, shell=shell).routes()])
        app.router.add_static("/static", HERE / "static")
        # No access log: paths hold hook names. No grace at the end: a stand-in owes its clients nothing.
        # Handlers are cancelled when their client goes, so that `slow` knows that nobody waits for it.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.http_port).start()
        sink_port = None
        if settings.sink_port is not None:
            sink = SinkServer(tally)
            stack.push_async_callback(sink.close)
            sink_port = await sink.start(host=settings.host, port=settings.sink_port)
        box = Box(
            host=settings.host,
            smtp_port=smtp.port,
            http_port=int(runner.addresses[0][1]),
            record=record,
            sink_port=sink_port,
        )
        shell.places = Places(smtp=f"{box.host}:{box.smtp_port}", http=box.http_url)
        yield box


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Box]:
    """A sandbox for tests, on free ports unless told; keywords are the fields of `Settings`."""
    async with serve(Settings(**settings)) as box:
        yield box
