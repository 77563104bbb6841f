"""`python -m api`: the API process. Exit code: 0 stopped as asked, 1 bad settings or no database, 98 the port is taken."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Iterator

import asyncpg
import structlog
import uvicorn
import uvloop
from pydantic import ValidationError

from api.accept.protocol import protocol_of
from api.app import create_app
from api.container import open_container
from infra import garbage
from infra.postgres.patience import until_there
from infra.settings import Settings
from infra.settings_problems import problems_of
from infra.telemetry.logs import configure

log = structlog.get_logger()

PORT_TAKEN = 98
LAST_ANSWER = (b"connection", b"close")
IN_USE = "{} is in use by another process"
BACKLOG = 2048
DRAIN_S = 5
"""For requests under way at a stop; the supervisor kills after 10 s."""
KEEP_ALIVE_S = 75
"""Longer than load balancers keep an idle connection (60 s), so that it is never us who closes under a request."""


class Server(uvicorn.Server):
    """uvicorn's, with signals left to us: its own handler raises them again before anything of ours is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def close_connections(self) -> None:
        """From now on each answer is the last one on its connection: clients go elsewhere before the port closes, and
        no request is sent into a connection that is just being closed."""
        for headers in (self.config.encoded_headers, self.server_state.default_headers):  # the one becomes the other
            headers.append(LAST_ANSWER)


class Stop:
    """The wish to stop: the first signal begins the drain, the next one waits for nobody."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if self.wanted.is_set():
            self.hurry.set()
        self.wanted.set()


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT; a second one does not wait for requests. Waits for a database that is not there yet.

    Raises what opening the database raises, PortTaken.
    """
    stop = Stop()
    if not await until_there(settings.database_url.get_secret_value(), stopping=stop.wanted):
        return
    async with open_container(settings, stopping=stop.wanted) as container:
        app = create_app(settings, container=container)
        assert app.accept is not None, "the container is open"
        config = uvicorn.Config(
            app,
            http=protocol_of(app.accept),
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
            backlog=BACKLOG,
        )
        server = Server(config)
        draining = asyncio.create_task(_drain(server, stop=stop, notice_s=settings.api_drain_notice_s))
        garbage.set_for_serving()
        host, port = listener.getsockname()[:2]
        _listen(listener)
        log.info("api.listening", host=host, port=port)
        await server.serve(sockets=[listener])
        draining.cancel()
    log.info("api.stopped")


async def _drain(server: Server, *, stop: Stop, notice_s: float) -> None:
    """From the first signal /readyz is 503 and each answer closes its connection; after the notice the port closes."""
    await stop.wanted.wait()
    log.info("api.draining", notice_s=notice_s)
    server.close_connections()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.hurry.wait(), notice_s)
    server.should_exit = True
    await stop.hurry.wait()
    server.force_exit = True


class PortTaken(Exception):
    """Somebody else listens on the port."""


def _listen(listener: socket.socket) -> None:
    """Only now: until everything is open, callers are refused and try the next process, instead of waiting here."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise PortTaken from error


def _bind(host: str, port: int) -> socket.socket:
    """Bound, so that a taken port is known before anything else is opened. Raises OSError."""
    [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _said(line: str) -> None:
    print(f"tongda api: {line}", file=sys.stderr, flush=True)


def main() -> int:
    try:
        settings = Settings()
    except ValidationError as error:
        _said(problems_of(error))
        return 1
    configure(settings.log_level)
    where = f"{settings.api_host}:{settings.api_port}"
    try:
        listener = _bind(settings.api_host, settings.api_port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        _said(IN_USE.format(where) if taken else f"cannot listen on {where}: {error.strerror}")
        return PORT_TAKEN if taken else 1
    try:
        uvloop.run(serve(settings, listener))
    except PortTaken:
        _said(IN_USE.format(where))
        return PORT_TAKEN
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        _said(f"cannot open the database of TONGDA_DATABASE_URL: {type(error).__name__}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
