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
from api.container import Container, open_container
from infra import garbage
from infra.settings import Settings
from infra.telemetry.logs import configure

log = structlog.get_logger()

PORT_TAKEN = 98
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


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT; a second one does not wait for requests. Raises what opening the database raises."""
    async with open_container(settings) as container:
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
        _stop_on_signals(server, container)
        garbage.set_for_serving()
        host, port = listener.getsockname()[:2]
        log.info("api.listening", host=host, port=port)
        await server.serve(sockets=[listener])
    log.info("api.stopped")


def _stop_on_signals(server: Server, container: Container) -> None:
    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        container.stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _listen(host: str, port: int) -> socket.socket:
    """Bound and listening, so that a taken port is known before anything else is opened. Raises OSError."""
    [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _settings_problem(error: ValidationError) -> str:
    """One line that names the variables."""
    return "; ".join(f"TONGDA_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())


def _said(line: str) -> None:
    print(f"tongda api: {line}", file=sys.stderr, flush=True)


def main() -> int:
    try:
        settings = Settings()
    except ValidationError as error:
        _said(f"bad settings: {_settings_problem(error)}")
        return 1
    configure(settings.log_level)
    where = f"{settings.api_host}:{settings.api_port}"
    try:
        listener = _listen(settings.api_host, settings.api_port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        _said(f"{where} is in use by another process" if taken else f"cannot listen on {where}: {error.strerror}")
        return PORT_TAKEN if taken else 1
    try:
        uvloop.run(serve(settings, listener))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        _said(f"cannot open the database of TONGDA_DATABASE_URL: {type(error).__name__}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
